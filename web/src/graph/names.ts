// Names and descriptions of nodes for people who hear the graph, and the short forms on cards.
import type { Graph, GraphEdge, GraphNode } from "../api/types";
import { severityWord } from "../domain/severity";
import { plural, visible, words } from "../domain/text";
import type { Zone } from "../domain/time";
import { clock } from "../domain/time";
import { across } from "../domain/walk";
import { kindWord, stateText } from "../ui/icons";

/** hidden is what follows the visible text of a card in its accessible name. */
export function hiddenWords(n: GraphNode, zone: Zone): string {
  const parts: string[] = [
    n.kind === "group"
      ? `${kindWord[(n.of || "process") as keyof typeof kindWord] ?? "thing"} group`
      : kindWord[n.kind],
  ];
  if (n.count > 1) parts.push(n.kind === "group" ? plural(n.count, "member") : `${n.count} times`);
  if (n.severity !== "none") parts.push(severityWord[n.severity].toLowerCase());
  if (n.signals > 0) parts.push(plural(n.signals, "signal"));
  if (n.spine) parts.push("on the main path");
  const state = stateText(n.kind, n.state);
  if (state !== "") parts.push(`${state} ${clock(n.stateAt, zone, 0)}`.trim());
  for (const f of n.flags) parts.push(words(f));
  if (n.children.total > 0)
    parts.push(`${plural(n.children.total, "child", "children")}, ${n.children.shown} shown`);
  return `, ${parts.map(visible).join(", ")}`;
}

/** description tells what the picture draws as lines over the tree, and what varies inside a fold. */
export function description(graph: Graph, n: GraphNode): string {
  const parts: string[] = [];
  if (n.varies.length > 0) parts.push(`varies: ${n.varies.join(", ")}`);
  if (n.path.length > 0) parts.push(n.path.join(", then "));
  const label = (id: string) => graph.nodes.find((k) => k.id === id)?.label ?? id;
  for (const a of across(graph, n.id))
    parts.push(a.forward ? `${a.label} ${label(a.other)}` : `${a.label}, from ${label(a.other)}`);
  return visible(parts.join("; "));
}

export function edgeTitle(graph: Graph, e: GraphEdge): string {
  const label = (id: string) => graph.nodes.find((k) => k.id === id)?.label ?? id;
  const ops = Object.entries(e.ops).map(([op, n]) => (n > 1 ? `${op} ×${n}` : op));
  return visible(
    `${label(e.source)} → ${label(e.target)}: ${ops.join(", ") || e.label}${e.refused ? ", refused" : ""}${e.reason === "" ? "" : `. ${e.reason}`}`,
  );
}

const verbs: Record<string, string> = {
  file: "files",
  network: "net",
  dns: "dns",
  child: "children",
  process: "processes",
  kernel: "kernel",
};

/** counters of a process, the interesting classes first, only those it has. */
export function counters(n: GraphNode): { id: string; word: string; n: number }[] {
  const known = ["file", "network", "dns", "child", "process", "kernel"];
  const ids = [
    ...known.filter((k) => k in n.did),
    ...Object.keys(n.did)
      .filter((k) => !known.includes(k))
      .sort(),
  ];
  return ids
    .filter((id) => n.did[id]! > 0)
    .map((id) => ({ id, word: verbs[id] ?? words(id), n: n.did[id]! }));
}
