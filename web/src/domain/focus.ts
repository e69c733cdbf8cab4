// What stands out and what steps back: the selection and what it touches, and the range of time.
import type { Entry, Graph } from "../api/types";
import type { Range } from "./time";
import { touches } from "./time";
import type { Selection } from "./view";

export interface Focus {
  /** Selected nodes, worst or first one first. */
  nodes: string[];
  /** Selected edges. */
  edges: string[];
  /** Nodes and edges that stay at full strength; null means all. */
  litNodes: Set<string> | null;
  litEdges: Set<string> | null;
}

/** focusOf works out what a selection and a range leave at full strength. */
export function focusOf(graph: Graph, entries: Entry[], sel: Selection | null, range: Range | null): Focus {
  const nodes: string[] = [];
  const edges: string[] = [];
  if (sel?.type === "node" && graph.nodes.some((n) => n.id === sel.id)) nodes.push(sel.id);
  if (sel?.type === "edge" && graph.edges.some((e) => e.id === sel.id)) edges.push(sel.id);
  if (sel?.type === "entry") {
    const entry = findEntry(entries, sel.id);
    nodes.push(...(entry?.nodeIds ?? []).filter((id) => graph.nodes.some((n) => n.id === id)));
    edges.push(...(entry?.edgeIds ?? []).filter((id) => graph.edges.some((e) => e.id === id)));
  }

  let litNodes: Set<string> | null = null;
  let litEdges: Set<string> | null = null;
  if (sel?.type === "lane") {
    litNodes = new Set(graph.nodes.filter((n) => within(graph, n.laneId, sel.id)).map((n) => n.id));
    const lit = litNodes;
    litEdges = new Set(graph.edges.filter((e) => lit.has(e.source) && lit.has(e.target)).map((e) => e.id));
  } else if (nodes.length + edges.length > 0) {
    litNodes = new Set(nodes);
    litEdges = new Set(edges);
    for (const e of graph.edges) {
      if (edges.includes(e.id)) litNodes.add(e.source).add(e.target);
      if (sel?.type === "node" && (e.source === sel.id || e.target === sel.id)) {
        litEdges.add(e.id);
        litNodes.add(e.source).add(e.target);
      }
      if (sel?.type === "entry" && nodes.includes(e.source) && nodes.includes(e.target)) litEdges.add(e.id);
    }
  }

  if (range) {
    const inside = new Set(
      graph.nodes.filter((n) => touches(range, n.firstSeen, n.lastSeen)).map((n) => n.id),
    );
    const edgesInside = new Set(
      graph.edges.filter((e) => touches(range, e.firstSeen, e.lastSeen)).map((e) => e.id),
    );
    litNodes = litNodes ? new Set([...litNodes].filter((id) => inside.has(id))) : inside;
    litEdges = litEdges ? new Set([...litEdges].filter((id) => edgesInside.has(id))) : edgesInside;
  }
  return { nodes, edges, litNodes, litEdges };
}

/** within tells whether a lane is another or lies inside it. */
export function within(graph: Graph, laneId: string, outer: string): boolean {
  let at = laneId;
  for (let guard = 0; at !== "" && guard <= graph.lanes.length; guard++) {
    if (at === outer) return true;
    at = graph.lanes.find((l) => l.id === at)?.parentId ?? "";
  }
  return false;
}

export function findEntry(entries: Entry[], id: string): Entry | undefined {
  for (const e of entries) {
    if (e.id === id) return e;
    const inner = findEntry(e.members, id);
    if (inner) return inner;
  }
  return undefined;
}

/** marked tells which entries belong to a selection of the graph. */
export function marks(entry: Entry, sel: Selection | null, focus: Focus): boolean {
  if (!sel) return false;
  if (sel.type === "entry") return entry.id === sel.id;
  if (sel.type === "lane") return entry.laneId === sel.id;
  return (
    entry.nodeIds.some((id) => focus.nodes.includes(id)) ||
    entry.edgeIds.some((id) => focus.edges.includes(id))
  );
}
