// Graphs for tests: random ones from a seed, shaped like process trees, and the demo story's.
import fc from "fast-check";
import type { Graph, GraphEdge, GraphNode, Lane, NodeKind, Severity } from "../api/types";

const second = (n: number) => new Date(Date.UTC(2026, 10, 21, 20, 0, 0) + n * 1000).toISOString();

export function node(id: string, more: Partial<GraphNode> = {}): GraphNode {
  return {
    id,
    kind: "process",
    of: "",
    laneId: "",
    treeParentId: "",
    order: 0,
    label: id,
    sublabel: "",
    severity: "none",
    spine: false,
    role: "",
    state: "",
    stateAt: "",
    count: 1,
    firstSeen: second(0),
    lastSeen: second(0),
    flags: [],
    signals: 0,
    did: {},
    children: { total: 0, shown: 0 },
    varies: [],
    samples: [],
    path: [],
    expandToken: "",
    foldReason: "",
    contextKeys: [],
    why: [],
    attributes: [],
    images: [],
    members: [],
    ...more,
  };
}

export function edge(id: string, source: string, target: string, more: Partial<GraphEdge> = {}): GraphEdge {
  return {
    id,
    kind: "spawn",
    source,
    target,
    tree: true,
    spine: false,
    severity: "none",
    count: 1,
    ops: {},
    label: "",
    firstSeen: second(0),
    lastSeen: second(0),
    refused: false,
    reason: "",
    eventIds: [],
    ...more,
  };
}

export function graph(nodes: GraphNode[], edges: GraphEdge[] = [], lanes: Lane[] = []): Graph {
  return {
    nodes,
    edges,
    lanes,
    gaps: [],
    entryId: "",
    impactIds: [],
    totals: { events: 0, nodes: nodes.length, edges: edges.length },
    hidden: [],
  };
}

const lane = (id: string, parentId: string, order: number): Lane => ({
  id,
  parentId,
  kind: parentId === "" ? "host" : "container",
  label: id,
  sublabel: "",
  state: "",
  stateAt: "",
  order,
});

const kinds: NodeKind[] = ["process", "process", "process", "file", "endpoint", "group"];
const severities: Severity[] = ["none", "none", "info", "medium", "high", "critical"];

/** A graph as a process tree grows: every node's parent is older than itself. */
export const growing: fc.Arbitrary<Graph> = fc
  .array(
    fc.record({
      parent: fc.nat(),
      root: fc.nat({ max: 9 }),
      kind: fc.constantFrom(...kinds),
      severity: fc.constantFrom(...severities),
      lane: fc.constantFrom("l_1", "l_1", "l_2", "l_3", ""),
    }),
    { minLength: 1, maxLength: 70 },
  )
  .map((list) => {
    const nodes: GraphNode[] = [];
    list.forEach((item, i) => {
      const parent = i > 0 && item.root > 0 ? nodes[item.parent % i]! : undefined;
      nodes.push(
        node(`n${String(i).padStart(3, "0")}`, {
          kind: item.kind,
          expandToken: item.kind === "group" ? `g${i}` : "",
          severity: item.severity,
          laneId: parent && item.root < 9 ? parent.laneId : item.lane,
          treeParentId: parent?.id ?? "",
          order: nodes.filter((n) => n.treeParentId === (parent?.id ?? "")).length,
          firstSeen: second(i),
          lastSeen: second(i + 1),
        }),
      );
    });
    const edges = nodes
      .filter((n) => n.treeParentId !== "")
      .map((n, i) => edge(`e${i}`, n.treeParentId, n.id));
    nodes.forEach((n, i) => {
      if (i % 7 === 3)
        edges.push(
          edge(`x${i}`, n.id, nodes[(i * 5) % nodes.length]!.id, { tree: false, kind: "execute_file" }),
        );
    });
    return graph(nodes, edges, [lane("l_1", "", 0), lane("l_2", "l_1", 0), lane("l_3", "", 1)]);
  });
