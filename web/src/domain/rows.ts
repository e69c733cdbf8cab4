// The story as rows: the same nodes as the graph, one row each, with a row more wherever a relation leaves the
// tree. What cannot be seen in the picture without sight can be read here.
import type { Graph, GraphNode } from "../api/types";
import type { Layout } from "./layout";
import { across, level } from "./walk";

export interface Row {
  key: string;
  /** A node, or a relation that leads to another row. */
  kind: "node" | "see";
  node: GraphNode;
  level: number;
  /** Text of a "see" row. */
  see: string;
  target: string;
  expandable: boolean;
  expanded: boolean;
  position: number;
  size: number;
}

export function rows(graph: Graph, layout: Layout, closed: ReadonlySet<string>): Row[] {
  const byId = new Map(graph.nodes.map((n) => [n.id, n]));
  const out: Row[] = [];
  const visit = (id: string, position: number, size: number) => {
    const node = byId.get(id)!;
    const children = layout.children.get(id) ?? [];
    const ways = across(graph, id).filter((a) => a.forward);
    const inside = children.length + ways.length > 0;
    // A fold may have children of its own: folded ancestors lead to what they started.
    const expandable = inside || node.expandToken !== "";
    const expanded = inside && !closed.has(id);
    const depth = level(layout, id);
    out.push({
      key: id,
      kind: "node",
      node,
      level: depth,
      see: "",
      target: "",
      expandable,
      expanded,
      position,
      size,
    });
    if (!expanded) return;
    const total = children.length + ways.length;
    children.forEach((child, i) => {
      visit(child, i + 1, total);
    });
    ways.forEach((a, i) => {
      const target = byId.get(a.other);
      if (!target) return;
      out.push({
        key: `${id}→${a.edgeId}`,
        kind: "see",
        node,
        level: depth + 1,
        see: a.label,
        target: a.other,
        expandable: false,
        expanded: false,
        position: children.length + i + 1,
        size: total,
      });
    });
  };
  const roots = layout.order.filter((id) => !layout.parent.has(id));
  roots.forEach((id, i) => {
    visit(id, i + 1, roots.length);
  });
  return out;
}

/** doing tells in a few words what a node did or what was done to it. */
export function doing(graph: Graph, n: GraphNode): string {
  if (n.why.length > 0) return n.why[0]!;
  const edge = graph.edges.find((e) => e.tree && e.target === n.id);
  if (n.kind === "ancestors") return n.path.join(" › ");
  if (!edge) return "";
  const label = edge.kind === "spawn" ? "ran" : edge.label;
  return edge.refused ? `${label}, refused` : label;
}
