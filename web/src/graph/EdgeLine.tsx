// One line of the graph. Its style says the kind, its colour the severity, its weight whether it lies on the
// path to the worst impact.
import { memo } from "react";
import type { EdgeKind } from "../api/types";
import type { PlacedEdge } from "../domain/layout";
import { count } from "../domain/text";
import type { Selection } from "../domain/view";
import css from "./EdgeLine.module.css";

interface Props {
  placed: PlacedEdge;
  title: string;
  dim: boolean;
  selected: boolean;
  onSelect: (sel: Selection | null) => void;
}

export const EdgeLine = memo(function EdgeLine({ placed, title, dim, selected, onSelect }: Props) {
  const { edge, d, tip, label } = placed;
  // Starting a program needs no word; everything else has one, above the line, and more words or a number below.
  const words = edge.kind === "spawn" ? [] : edge.label.split(" ");
  const above = words[0] ?? "";
  const below = [
    words.slice(1).join(" ").replace(/^to /, ""),
    edge.kind !== "spawn" && edge.count > 1 ? `×${count(edge.count)}` : "",
  ]
    .filter((t) => t !== "")
    .join(" ");
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the picture of relations; the tree items name them
    <g
      className={css.edge}
      data-edge={edge.id}
      data-kind={edge.kind}
      data-sev={edge.severity}
      data-spine={edge.spine || undefined}
      data-tree={edge.tree || undefined}
      data-dim={dim || undefined}
      data-selected={selected || undefined}
      onClick={() => onSelect({ type: "edge", id: edge.id })}
    >
      <title>{title}</title>
      <path className={css.hit} d={d} />
      <Stroke kind={edge.kind} d={d} />
      <path className={css.tip} d={`M${tip.x} ${tip.y}l-7 -3.500v7z`} />
      {edge.refused && <path className={css.bar} d={`M${tip.x - 11} ${tip.y - 5}v10`} />}
      {edge.kind === "signal" && (
        <path className={css.bar} d={`M${tip.x - 15} ${tip.y - 3.5}l7 7m0 -7l-7 7`} />
      )}
      {above !== "" && (
        <text className={css.label} x={label.x} y={label.y} textAnchor={label.middle ? "middle" : "start"}>
          {above}
        </text>
      )}
      {below !== "" && (
        <text
          className={css.label}
          x={label.x}
          y={label.middle ? label.y + 11 : label.y + 15}
          textAnchor={label.middle ? "middle" : "start"}
        >
          {below}
        </text>
      )}
    </g>
  );
});

/** The strokes of a kind of line: also used by the legend. */
export function Stroke({ kind, d }: { kind: EdgeKind; d: string }) {
  switch (kind) {
    case "write":
      return (
        <>
          <path className={css.wide} d={d} />
          <path className={css.core} d={d} />
        </>
      );
    case "execute_file":
      return (
        <>
          <path className={css.wide} d={d} />
          <path className={css.core} d={d} pathLength={100} />
        </>
      );
    case "identity":
    case "context":
      return <path className={css.line} d={d} data-style={kind} />;
    default:
      return <path className={css.line} d={d} />;
  }
}
