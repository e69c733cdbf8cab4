import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { layout } from "./layout";
import { rows } from "./rows";
import { edge, graph, growing, node } from "./testgraph";
import { across, level, step } from "./walk";

const g = graph(
  [
    node("a"),
    node("b", { treeParentId: "a", order: 0 }),
    node("c", { treeParentId: "a", order: 1 }),
    node("d", { treeParentId: "b" }),
    node("e", { treeParentId: "c", expandToken: "e", kind: "group" }),
  ],
  [edge("x", "d", "c", { tree: false, label: "executed" })],
);
const l = layout(g);

describe("walking", () => {
  it("goes in, out and along", () => {
    expect(step(l, "a", "in")).toBe("b");
    expect(step(l, "b", "next")).toBe("c");
    expect(step(l, "c", "previous")).toBe("b");
    expect(step(l, "d", "out")).toBe("b");
    expect(step(l, "a", "out")).toBe("a");
    expect(step(l, "d", "in")).toBe("d");
    expect(step(l, "a", "last")).toBe("e");
    expect(step(l, "e", "first")).toBe("a");
    expect(step(l, "gone", "next")).toBe("a");
  });

  it("goes on to the next card of the column where siblings end", () => {
    expect(step(l, "d", "next")).toBe("e");
    expect(step(l, "e", "previous")).toBe("d");
  });

  it("reaches every node from the first one with arrows alone", () => {
    fc.assert(
      fc.property(growing, (random) => {
        const r = layout(random);
        const seen = new Set<string>();
        const queue = [r.order[0]!];
        while (queue.length > 0) {
          const id = queue.pop()!;
          if (seen.has(id)) continue;
          seen.add(id);
          for (const how of ["next", "previous", "in", "out"] as const) queue.push(step(r, id, how));
        }
        expect(seen.size).toBe(random.nodes.length);
      }),
    );
  });

  it("lists relations over the tree from both ends", () => {
    expect(across(g, "d")).toEqual([{ edgeId: "x", other: "c", label: "executed", forward: true }]);
    expect(across(g, "c")).toEqual([{ edgeId: "x", other: "d", label: "executed", forward: false }]);
    expect(level(l, "d")).toBe(3);
  });
});

describe("rows of the tree view", () => {
  it("shows every node once and a row where a relation leaves", () => {
    expect(rows(g, l, new Set()).map((r) => (r.kind === "see" ? `${r.key}!` : r.key))).toEqual([
      "a",
      "b",
      "d",
      "d→x!",
      "c",
      "e",
    ]);
  });

  it("hides what is below a closed row and leaves folds closed", () => {
    const list = rows(g, l, new Set(["b"]));
    expect(list.map((r) => r.key)).toEqual(["a", "b", "c", "e"]);
    expect(list.find((r) => r.key === "b")).toMatchObject({ expandable: true, expanded: false });
    expect(list.find((r) => r.key === "e")).toMatchObject({ expandable: true, expanded: false });
  });

  it("shows what folded ancestors started", () => {
    const h = graph([node("a", { kind: "ancestors", expandToken: "a" }), node("b", { treeParentId: "a" })]);
    const list = rows(h, layout(h), new Set());
    expect(list.map((r) => r.key)).toEqual(["a", "b"]);
    expect(list[0]).toMatchObject({ expandable: true, expanded: true });
  });

  it("has as many node rows as the graph has cards", () => {
    fc.assert(
      fc.property(growing, (random) => {
        const nodes = rows(random, layout(random), new Set()).filter((r) => r.kind === "node");
        expect(nodes.map((r) => r.key).sort()).toEqual(random.nodes.map((n) => n.id).sort());
      }),
    );
  });
});
