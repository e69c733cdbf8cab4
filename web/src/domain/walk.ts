// Walking the graph by keyboard: where each key leads from a node. The tree view walks its rows with the same
// functions, so both give the same answers.
import type { Graph } from "../api/types";
import type { Layout } from "./layout";

export type Step = "next" | "previous" | "in" | "out" | "first" | "last";

/** step gives the node a key leads to, or the node itself where there is none. */
export function step(l: Layout, from: string, how: Step): string {
  if (l.order.length === 0) return from;
  const i = l.order.indexOf(from);
  if (i < 0) return l.order[0]!;
  switch (how) {
    case "first":
      return l.order[0]!;
    case "last":
      return l.order[l.order.length - 1]!;
    case "in":
      return l.children.get(from)?.[0] ?? from;
    case "out":
      return l.parent.get(from) ?? from;
    case "next":
    case "previous": {
      const delta = how === "next" ? 1 : -1;
      const all = siblings(l, from);
      const sibling = all[all.indexOf(from) + delta];
      if (sibling !== undefined) return sibling;
      // At the end of the siblings: the nearest card of the column, so that no part of it is out of reach.
      return nearest(l, from, delta) ?? from;
    }
  }
}

export function siblings(l: Layout, id: string): string[] {
  const p = l.parent.get(id);
  return p === undefined ? l.order.filter((k) => !l.parent.has(k)) : l.children.get(p)!;
}

function nearest(l: Layout, id: string, delta: 1 | -1): string | undefined {
  const from = l.nodes.get(id);
  if (!from) return undefined;
  let best: { id: string; distance: number } | undefined;
  for (const p of l.nodes.values()) {
    const distance = (p.y - from.y) * delta;
    if (p.column !== from.column || p.id === id || distance <= 0) continue;
    if (!best || distance < best.distance || (distance === best.distance && p.id < best.id))
      best = { id: p.id, distance };
  }
  return best?.id;
}

/** A relation beside the tree, seen from one of its ends. */
export interface Across {
  edgeId: string;
  other: string;
  label: string;
  forward: boolean;
}

/** across lists the relations of a node that the tree does not show, outgoing ones first. */
export function across(graph: Graph, id: string): Across[] {
  const out: Across[] = [];
  const back: Across[] = [];
  for (const e of graph.edges) {
    if (e.tree) continue;
    if (e.source === id) out.push({ edgeId: e.id, other: e.target, label: e.label, forward: true });
    else if (e.target === id) back.push({ edgeId: e.id, other: e.source, label: e.label, forward: false });
  }
  return [...out, ...back];
}

/** level is how deep a node stands, 1 for a root. */
export function level(l: Layout, id: string): number {
  let depth = 1;
  for (let at = l.parent.get(id); at !== undefined; at = l.parent.get(at)) depth++;
  return depth;
}
