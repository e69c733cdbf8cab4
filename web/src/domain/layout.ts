// The graph's geometry in cause mode: what caused something stands at its left. A pure function of the data:
// the same graph gives the same picture for everybody, and a growing graph only adds at ends.
//
// Columns are depths in the tree of causes, across lanes. Inside a lane the trees are packed one below the
// other; a first child stands level with its parent, the others below. Lanes are stacked and nest.
import { hierarchy } from "d3-hierarchy";
import type { Graph, GraphEdge, GraphNode, Lane } from "../api/types";
import { rank } from "./severity";
import { compare } from "./time";

export const cardWidth = 186;
export const pitch = 238;
const rowGap = 8;
const rootGap = 13;
const lanePad = 12;
const laneHead = 28;
const laneGap = 12;

/** Distance of the lines over the tree from the cards; `track` keeps several of them apart. */
const offset = (track: number) => 20 + (track % 5) * 4;

export interface Placed {
  id: string;
  /** Left upper corner. */
  x: number;
  y: number;
  w: number;
  h: number;
  column: number;
}

export interface PlacedLane {
  id: string;
  lane: Lane;
  depth: number;
  x: number;
  y: number;
  w: number;
  h: number;
}

export interface PlacedEdge {
  id: string;
  edge: GraphEdge;
  /** SVG path of the line, ends included. */
  d: string;
  /** Tip of the arrow and the direction it points in. */
  tip: { x: number; y: number };
  /** Where its label begins, or where its middle is. */
  label: { x: number; y: number; middle: boolean };
}

export interface Layout {
  nodes: Map<string, Placed>;
  lanes: PlacedLane[];
  edges: PlacedEdge[];
  width: number;
  height: number;
  /** Nodes in reading order: lane by lane, parents before children. */
  order: string[];
  parent: Map<string, string>;
  children: Map<string, string[]>;
}

/** height of a card: 56 with room for two lines and marks, 40 for two lines, 28 for one. */
export function cardHeight(n: GraphNode): number {
  if (n.kind === "group") return 40;
  if (n.kind === "ancestors") return 28;
  const weight = rank(n.severity);
  if (n.kind === "process") return n.spine || weight >= rank("critical") ? 56 : 40;
  if (n.kind === "file" || n.kind === "endpoint") return weight >= rank("medium") || n.spine ? 40 : 28;
  return 40;
}

/** childOrder: the path to the worst impact first, then as the server says, then as first seen. */
function childOrder(a: GraphNode, b: GraphNode): number {
  return (
    Number(b.spine) - Number(a.spine) ||
    a.order - b.order ||
    compare(a.firstSeen, b.firstSeen) ||
    (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
  );
}

/** add appends to the list a map holds. */
function add<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

/** A forest without cycles: a parent that does not exist, or that would close a circle, is no parent. */
function forest(nodes: GraphNode[]) {
  const byId = new Map(nodes.map((n) => [n.id, n]));
  const parent = new Map<string, string>();
  for (const n of nodes) {
    if (!byId.has(n.treeParentId) || n.treeParentId === n.id) continue;
    let up: string | undefined = n.treeParentId;
    while (up !== undefined && up !== n.id) up = parent.get(up);
    if (up === undefined) parent.set(n.id, n.treeParentId);
  }
  const children = new Map<string, string[]>();
  for (const n of [...nodes].sort(childOrder)) {
    const p = parent.get(n.id);
    if (p !== undefined) add(children, p, n.id);
  }
  return { byId, parent, children };
}

interface Subtree {
  /** Centre of each node, relative to the root's centre. */
  centre: Map<string, number>;
  /** Highest and lowest edge per column, relative to the root's centre. */
  top: Map<number, number>;
  bottom: Map<number, number>;
}

export function layout(graph: Graph): Layout {
  const { byId, parent, children } = forest(graph.nodes);

  const column = new Map<string, number>();
  const columnOf = (id: string): number => {
    const known = column.get(id);
    if (known !== undefined) return known;
    const path: string[] = [];
    let at: string | undefined = id;
    while (at !== undefined && !column.has(at)) {
      path.push(at);
      at = parent.get(at);
    }
    let depth = at === undefined ? -1 : column.get(at)!;
    for (const step of path.reverse()) column.set(step, ++depth);
    return column.get(id)!;
  };
  for (const n of graph.nodes) columnOf(n.id);

  // Lanes as a forest, with a nameless one for nodes whose lane is unknown.
  const laneById = new Map(graph.lanes.map((l) => [l.id, l]));
  const laneOf = (n: GraphNode) => (laneById.has(n.laneId) ? n.laneId : "");
  const laneOrder = (a: Lane, b: Lane) => a.order - b.order || (a.id < b.id ? -1 : 1);
  const subLanes = new Map<string, Lane[]>();
  const laneParent = new Map<string, string>();
  for (const l of [...graph.lanes].sort(laneOrder)) {
    let up = laneById.has(l.parentId) && l.parentId !== l.id ? l.parentId : "";
    for (let at: string | undefined = up; at; at = laneParent.get(at)) if (at === l.id) up = "";
    laneParent.set(l.id, up);
    add(subLanes, up, l);
  }
  const roots = new Map<string, string[]>();
  for (const n of [...graph.nodes].sort(childOrder)) {
    const p = parent.get(n.id);
    const lane = laneOf(n);
    if (p === undefined || laneOf(byId.get(p)!) !== lane) add(roots, lane, n.id);
  }

  const inLane = (id: string) =>
    (children.get(id) ?? []).filter((c) => laneOf(byId.get(c)!) === laneOf(byId.get(id)!));

  /** pack places one tree, deepest nodes first, so that no recursion depth depends on the data. */
  const pack = (root: string): Subtree => {
    const done = new Map<string, Subtree>();
    hierarchy<string>(root, inLane).eachAfter((item) => {
      const id = item.data;
      const col = column.get(id)!;
      const half = cardHeight(byId.get(id)!) / 2;
      const whole: Subtree = {
        centre: new Map([[id, 0]]),
        top: new Map([[col, -half]]),
        bottom: new Map([[col, half]]),
      };
      let lowest = 0;
      (item.children ?? []).forEach((child, i) => {
        const sub = done.get(child.data)!;
        done.delete(child.data);
        let shift = i === 0 ? 0 : lowest;
        if (i > 0) {
          for (const [c, top] of sub.top) {
            const bottom = whole.bottom.get(c);
            if (bottom !== undefined) shift = Math.max(shift, bottom + rowGap - top);
          }
        }
        lowest = shift;
        for (const [k, y] of sub.centre) whole.centre.set(k, y + shift);
        for (const [c, y] of sub.top) whole.top.set(c, Math.min(whole.top.get(c) ?? Infinity, y + shift));
        for (const [c, y] of sub.bottom)
          whole.bottom.set(c, Math.max(whole.bottom.get(c) ?? -Infinity, y + shift));
      });
      done.set(id, whole);
    });
    return done.get(root)!;
  };

  const laneDepth = (id: string): number => {
    let depth = 0;
    for (let at = laneParent.get(id); at; at = laneParent.get(at)) depth++;
    return depth;
  };
  const deepest = Math.max(0, ...graph.lanes.map((l) => laneDepth(l.id)));
  const columns = Math.max(0, ...column.values());
  const left = graph.lanes.length > 0 ? lanePad * (deepest + 1) : 0;
  // Room for the lines over the tree that leave the last column.
  const margin = graph.edges.some((e) => !e.tree) ? offset(4) + 6 : 0;
  const contentRight = left + columns * pitch + cardWidth + margin;

  const nodes = new Map<string, Placed>();
  const lanes: PlacedLane[] = [];
  const order: string[] = [];

  /** stack puts the trees of one lane below each other, starting at y, and returns where they end. */
  const stack = (lane: string, y: number): number => {
    let first = true;
    const bottom = new Map<number, number>();
    for (const root of roots.get(lane) ?? []) {
      const tree = pack(root);
      const highest = Math.min(...tree.top.values());
      let centre = y - highest;
      for (const [c, top] of tree.top) {
        const above = bottom.get(c);
        if (!first && above !== undefined) centre = Math.max(centre, above + rootGap - top);
      }
      // Whole trees do not slip beside each other: a lane reads from top to bottom.
      if (!first) centre = Math.max(centre, Math.max(...bottom.values()) + rootGap - highest);
      first = false;
      for (const [c, b] of tree.bottom) bottom.set(c, Math.max(bottom.get(c) ?? -Infinity, b + centre));
      hierarchy<string>(root, inLane).eachBefore(({ data: id }) => {
        const h = cardHeight(byId.get(id)!);
        const col = column.get(id)!;
        nodes.set(id, {
          id,
          x: left + col * pitch,
          y: centre + tree.centre.get(id)! - h / 2,
          w: cardWidth,
          h,
          column: col,
        });
        order.push(id);
      });
    }
    return first ? y : Math.max(...bottom.values());
  };

  const place = (lane: Lane, y: number, depth: number): number => {
    const index = lanes.length;
    const x = lanePad * depth;
    const box: PlacedLane = {
      id: lane.id,
      lane,
      depth,
      x,
      y,
      w: contentRight + lanePad * (deepest + 1 - depth) - x,
      h: 0,
    };
    lanes.push(box);
    let at = y + laneHead;
    let empty = true;
    for (const sub of subLanes.get(lane.id) ?? []) {
      if (!empty) at += laneGap;
      at = place(sub, at, depth + 1);
      empty = false;
    }
    if ((roots.get(lane.id) ?? []).length > 0) {
      if (!empty) at += laneGap;
      at = stack(lane.id, at);
    }
    lanes[index] = { ...box, h: at + lanePad - y };
    return at + lanePad;
  };

  let y = 0;
  if ((roots.get("") ?? []).length > 0) y = stack("", y) + laneGap;
  for (const l of subLanes.get("") ?? []) y = place(l, y, 0) + laneGap;

  let track = 0;
  const edges = graph.edges.flatMap((e) => {
    const a = nodes.get(e.source);
    const b = nodes.get(e.target);
    return a && b && a !== b ? [route(e, a, b, e.tree ? 0 : track++)] : [];
  });

  return {
    nodes,
    lanes,
    edges,
    width: contentRight + (graph.lanes.length > 0 ? lanePad * (deepest + 1) : 0),
    height: Math.max(0, y - laneGap),
    order,
    parent,
    children,
  };
}

const arrow = 7;

/** A part of the picture. */
export interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
}

/** overview is the part to show first where not all fits: the path from the entry to the worst impact. */
export function overview(l: Layout, graph: Graph): Box {
  const main = graph.nodes.filter((n) => n.spine).map((n) => l.nodes.get(n.id)!);
  if (main.length === 0) return { x: 0, y: 0, w: l.width, h: l.height };
  // From the left edge where that is near, so that the lane's name is seen, too.
  const left = Math.min(...main.map((p) => p.x));
  const top = Math.min(...main.map((p) => p.y));
  const x = left < pitch ? 0 : left - laneHead;
  const y = top < 2 * laneHead + 60 ? 0 : top - laneHead;
  return {
    x,
    y,
    w: Math.min(l.width, Math.max(...main.map((p) => p.x + p.w)) + laneHead) - x,
    h: Math.min(l.height, Math.max(...main.map((p) => p.y + p.h)) + laneHead) - y,
  };
}

/** route draws an edge. Every edge leaves at the right and enters at the left, and keeps to the room between cards. */
function route(edge: GraphEdge, a: Placed, b: Placed, track: number): PlacedEdge {
  const x0 = a.x + a.w;
  const y0 = a.y + a.h / 2;
  const x1 = b.x - arrow;
  const y1 = b.y + b.h / 2;
  const tip = { x: b.x - 1, y: y1 };
  if (edge.tree && b.column === a.column + 1) {
    const trunk = x0 + 8;
    const points = [x0, y0, trunk, y0, trunk, y1, x1, y1];
    return {
      id: edge.id,
      edge,
      d: polyline(points),
      tip,
      label: { x: (Math.abs(y1 - y0) < 0.5 ? x0 : trunk) + 3, y: y1 - 4, middle: false },
    };
  }
  const out = x0 + offset(track);
  if (b.column === a.column + 1) {
    const points = [x0, y0, out, y0, out, y1, x1, y1];
    return {
      id: edge.id,
      edge,
      d: polyline(points),
      tip,
      label: { x: out, y: (y0 + y1) / 2 + 3, middle: true },
    };
  }
  // To another column: along the room between two rows, beside the card it leads to.
  const into = b.x - offset(track) - 4;
  const row = y0 <= y1 ? b.y - rowGap / 2 : b.y + b.h + rowGap / 2;
  const points = [x0, y0, out, y0, out, row, into, row, into, y1, x1, y1];
  return {
    id: edge.id,
    edge,
    d: polyline(points),
    tip,
    label: { x: out, y: y0 + (y0 <= row ? 22 : -16), middle: true },
  };
}

/** polyline joins points (x, y, x, y …) by horizontal and vertical lines with round corners. */
function polyline(p: number[]): string {
  // Points that change nothing would make corners out of nothing.
  const q: number[] = [];
  for (let i = 0; i < p.length; i += 2) {
    const [x, y] = [p[i]!, p[i + 1]!];
    const k = q.length;
    if (k >= 2 && Math.abs(q[k - 2]! - x) < 0.5 && Math.abs(q[k - 1]! - y) < 0.5) continue;
    if (k >= 4) {
      const sameX = Math.abs(q[k - 4]! - x) < 0.5 && Math.abs(q[k - 2]! - x) < 0.5;
      const sameY = Math.abs(q[k - 3]! - y) < 0.5 && Math.abs(q[k - 1]! - y) < 0.5;
      if (sameX || sameY) q.splice(k - 2, 2);
    }
    q.push(x, y);
  }
  let d = `M${n(q[0]!)} ${n(q[1]!)}`;
  for (let i = 2; i + 3 < q.length; i += 2) {
    const [px, py, x, y, nx, ny] = [q[i - 2]!, q[i - 1]!, q[i]!, q[i + 1]!, q[i + 2]!, q[i + 3]!];
    const before = Math.hypot(x - px, y - py);
    const after = Math.hypot(nx - x, ny - y);
    const r = Math.min(7, before / 2, after / 2);
    d += `L${n(x - ((x - px) / before) * r)} ${n(y - ((y - py) / before) * r)}`;
    d += `Q${n(x)} ${n(y)} ${n(x + ((nx - x) / after) * r)} ${n(y + ((ny - y) / after) * r)}`;
  }
  return `${d}L${n(q[q.length - 2]!)} ${n(q[q.length - 1]!)}`;
}

/** n writes a coordinate with at most one decimal, so that equal layouts give equal bytes. */
function n(v: number): string {
  return String(Math.round(v * 10) / 10);
}
