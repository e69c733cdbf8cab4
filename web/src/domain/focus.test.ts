import { describe, expect, it } from "vitest";
import type { Entry } from "../api/types";
import { focusOf, marks, within } from "./focus";
import { edge, graph, node } from "./testgraph";
import { ms } from "./time";

const lanes = [
  {
    id: "h",
    parentId: "",
    kind: "host",
    label: "h",
    sublabel: "",
    state: "" as const,
    stateAt: "",
    order: 0,
  },
  {
    id: "c",
    parentId: "h",
    kind: "container",
    label: "c",
    sublabel: "",
    state: "" as const,
    stateAt: "",
    order: 0,
  },
];
const at = (s: number) => new Date(Date.UTC(2026, 0, 1) + s * 1000).toISOString();
const g = graph(
  [
    node("a", { laneId: "c", firstSeen: at(0), lastSeen: at(10) }),
    node("b", { laneId: "c", treeParentId: "a", firstSeen: at(2), lastSeen: at(2) }),
    node("d", { laneId: "h", firstSeen: at(8), lastSeen: at(9) }),
  ],
  [
    edge("ab", "a", "b", { firstSeen: at(2), lastSeen: at(2) }),
    edge("bd", "b", "d", { tree: false, firstSeen: at(8), lastSeen: at(8) }),
  ],
  lanes,
);
const entry: Entry = {
  id: "t1",
  at: at(2),
  until: "",
  kind: "signal",
  severity: "high",
  text: [],
  count: 1,
  rule: null,
  techniques: [],
  context: null,
  laneId: "c",
  nodeIds: ["a", "b"],
  edgeIds: [],
  eventIds: [],
  members: [],
};

describe("focus", () => {
  it("dims nothing without selection and range", () => {
    expect(focusOf(g, [entry], null, null)).toMatchObject({ litNodes: null, litEdges: null });
  });

  it("keeps a node and its neighbours", () => {
    const f = focusOf(g, [entry], { type: "node", id: "a" }, null);
    expect([...f.litNodes!]).toEqual(["a", "b"]);
    expect([...f.litEdges!]).toEqual(["ab"]);
    expect(marks(entry, { type: "node", id: "a" }, f)).toBe(true);
  });

  it("selects an entry's nodes, also of an entry inside a folded one", () => {
    const outer: Entry = { ...entry, id: "t0", nodeIds: [], members: [entry] };
    const f = focusOf(g, [outer], { type: "entry", id: "t1" }, null);
    expect(f.nodes).toEqual(["a", "b"]);
    expect([...f.litEdges!]).toEqual(["ab"]);
  });

  it("keeps what a lane contains", () => {
    expect([...focusOf(g, [], { type: "lane", id: "c" }, null).litNodes!]).toEqual(["a", "b"]);
    expect([...focusOf(g, [], { type: "lane", id: "h" }, null).litNodes!]).toEqual(["a", "b", "d"]);
    expect(within(g, "c", "h")).toBe(true);
    expect(within(g, "h", "c")).toBe(false);
  });

  it("keeps what lies in the range, and both together", () => {
    const range = { from: ms(at(7)), to: ms(at(12)) };
    expect([...focusOf(g, [], null, range).litNodes!]).toEqual(["a", "d"]);
    expect([...focusOf(g, [], { type: "node", id: "b" }, range).litNodes!]).toEqual(["a", "d"]);
    expect([...focusOf(g, [], null, range).litEdges!]).toEqual(["bd"]);
  });

  it("ignores a selection that is not there", () => {
    expect(focusOf(g, [entry], { type: "node", id: "gone" }, null).litNodes).toBeNull();
  });
});
