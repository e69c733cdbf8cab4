import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cardHeight, layout, overview } from "./layout";
import { edge, graph, growing, node } from "./testgraph";

describe("layout", () => {
  it("puts no two cards over each other", () => {
    fc.assert(
      fc.property(growing, (g) => {
        const all = [...layout(g).nodes.values()];
        for (let i = 0; i < all.length; i++) {
          for (let k = i + 1; k < all.length; k++) {
            const [a, b] = [all[i]!, all[k]!];
            const apart = a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
            expect(apart, `${a.id} and ${b.id}`).toBe(true);
          }
        }
      }),
    );
  });

  it("puts every child right of its parent, and every node into the picture", () => {
    fc.assert(
      fc.property(growing, (g) => {
        const l = layout(g);
        expect([...l.nodes.keys()].sort()).toEqual(g.nodes.map((n) => n.id).sort());
        expect([...l.order].sort()).toEqual([...l.nodes.keys()].sort());
        for (const [child, parent] of l.parent) {
          const [c, p] = [l.nodes.get(child)!, l.nodes.get(parent)!];
          expect(c.x).toBeGreaterThan(p.x + p.w);
        }
        for (const p of l.nodes.values()) {
          expect(p.x + p.w).toBeLessThanOrEqual(l.width);
          expect(p.y + p.h).toBeLessThanOrEqual(l.height);
        }
      }),
    );
  });

  it("keeps every card inside its lane and lanes inside lanes", () => {
    fc.assert(
      fc.property(growing, (g) => {
        const l = layout(g);
        const boxes = new Map(l.lanes.map((b) => [b.id, b]));
        for (const n of g.nodes) {
          const box = boxes.get(n.laneId);
          const p = l.nodes.get(n.id)!;
          if (!box) continue;
          expect(p.x).toBeGreaterThan(box.x);
          expect(p.x + p.w).toBeLessThan(box.x + box.w);
          expect(p.y).toBeGreaterThan(box.y);
          expect(p.y + p.h).toBeLessThan(box.y + box.h);
        }
        const [outer, inner] = [boxes.get("l_1")!, boxes.get("l_2")!];
        expect(inner.y).toBeGreaterThan(outer.y);
        expect(inner.y + inner.h).toBeLessThan(outer.y + outer.h);
        expect(boxes.get("l_3")!.y).toBeGreaterThanOrEqual(outer.y + outer.h);
      }),
    );
  });

  it("gives the same picture for the same data, whatever its order", () => {
    fc.assert(
      fc.property(growing, (g) => {
        const shuffled = { ...g, nodes: [...g.nodes].reverse(), lanes: [...g.lanes].reverse() };
        const [a, b] = [layout(g), layout(shuffled)];
        for (const [id, p] of a.nodes) expect(b.nodes.get(id)).toEqual(p);
        expect(b.edges.map((e) => e.d)).toEqual(a.edges.map((e) => e.d));
        expect(layout(g)).toEqual(a);
      }),
    );
  });

  it("moves nothing sideways and reorders no column while a story grows", () => {
    fc.assert(
      fc.property(growing, (g) => {
        let before = layout(graph([], [], g.lanes));
        for (let n = 1; n <= g.nodes.length; n += 3) {
          const now = layout({ ...g, nodes: g.nodes.slice(0, n) });
          const columns = new Map<string, { old: number; y: number }[]>();
          for (const [id, old] of before.nodes) {
            const p = now.nodes.get(id)!;
            expect(p.x).toBe(old.x);
            expect(p.y).toBeGreaterThanOrEqual(old.y - 0.001);
            const lane = g.nodes.find((k) => k.id === id)!.laneId;
            const key = `${lane}/${p.column}`;
            columns.set(key, [...(columns.get(key) ?? []), { old: old.y, y: p.y }]);
          }
          for (const column of columns.values()) {
            const order = [...column].sort((a, b) => a.old - b.old);
            for (let i = 1; i < order.length; i++) expect(order[i]!.y).toBeGreaterThan(order[i - 1]!.y);
          }
          before = now;
        }
      }),
      { numRuns: 60 },
    );
  });

  it("draws the main path as a straight line", () => {
    const g = graph(
      [
        node("a", { spine: true }),
        node("early", { treeParentId: "a", order: 0 }),
        node("b", { treeParentId: "a", order: 5, spine: true, severity: "critical" }),
        node("c", { treeParentId: "b", kind: "file", spine: true, severity: "critical" }),
      ],
      [edge("e1", "a", "b"), edge("e2", "b", "c")],
    );
    const l = layout(g);
    const centre = (id: string) => l.nodes.get(id)!.y + l.nodes.get(id)!.h / 2;
    expect(centre("b")).toBe(centre("a"));
    expect(centre("c")).toBe(centre("a"));
    expect(centre("early")).toBeGreaterThan(centre("b"));
    for (const e of l.edges) expect(e.d).toMatch(/^M[\d.]+ ([\d.]+)L[\d.]+ \1$/);
  });

  it("shows the main path first", () => {
    const chain = Array.from({ length: 8 }, (_, i) =>
      node(`n${i}`, { treeParentId: i === 0 ? "" : `n${i - 1}`, spine: i >= 5 }),
    );
    const g = graph(chain);
    const l = layout(g);
    const box = overview(l, g);
    for (const id of ["n5", "n6", "n7"]) {
      const p = l.nodes.get(id)!;
      expect(p.x).toBeGreaterThanOrEqual(box.x);
      expect(p.x + p.w).toBeLessThanOrEqual(box.x + box.w);
    }
    expect(l.nodes.get("n4")!.x).toBeLessThan(box.x);
    expect(overview(layout(graph([node("a")])), graph([node("a")]))).toMatchObject({ x: 0, y: 0 });
  });

  it("takes circles, missing parents and nodes that are their own parent as roots", () => {
    const l = layout(
      graph([
        node("a", { treeParentId: "b" }),
        node("b", { treeParentId: "a" }),
        node("c", { treeParentId: "nowhere" }),
        node("d", { treeParentId: "d" }),
      ]),
    );
    expect(l.nodes.size).toBe(4);
    expect(l.order).toHaveLength(4);
    expect(l.parent.size).toBe(1);
  });

  it("takes lanes that contain each other as top lanes", () => {
    const lane = (id: string, parentId: string) => ({
      id,
      parentId,
      kind: "host",
      label: id,
      sublabel: "",
      state: "" as const,
      stateAt: "",
      order: 0,
    });
    const l = layout(graph([node("a", { laneId: "x" })], [], [lane("x", "y"), lane("y", "x")]));
    expect(l.lanes).toHaveLength(2);
    expect(l.nodes.size).toBe(1);
  });

  it("lays out 500 nodes in a chain and a fan", () => {
    const nodes = Array.from({ length: 500 }, (_, i) =>
      node(`n${i}`, { treeParentId: i === 0 ? "" : i < 250 ? `n${i - 1}` : "n0", order: i }),
    );
    expect(layout(graph(nodes)).nodes.size).toBe(500);
  });

  it("has three heights of cards", () => {
    expect(cardHeight(node("p"))).toBe(40);
    expect(cardHeight(node("p", { severity: "critical" }))).toBe(56);
    expect(cardHeight(node("p", { severity: "high" }))).toBe(40);
    expect(cardHeight(node("f", { kind: "file" }))).toBe(28);
  });
});
