// The story as a tree grid: the same nodes, selection and folds as the graph, for reading and for screen readers.
import { type KeyboardEvent, useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { Graph } from "../api/types";
import type { Focus } from "../domain/focus";
import type { Layout } from "../domain/layout";
import { doing, type Row, rows } from "../domain/rows";
import { severityWord } from "../domain/severity";
import { count, label as shorten, visible } from "../domain/text";
import { clock, type Zone } from "../domain/time";
import type { Selection } from "../domain/view";
import {
  ArrowRight,
  ChevronDown,
  ChevronRight,
  KindIcon,
  kindWord,
  Plus,
  StateIcon,
  stateText,
} from "../ui/icons";
import { SeverityMark } from "../ui/Severity";
import { Text } from "../ui/Text";
import { laneName } from "./GraphView";
import css from "./TreeView.module.css";

interface Props {
  graph: Graph;
  layout: Layout;
  focus: Focus;
  selection: Selection | null;
  zone: Zone;
  onSelect: (sel: Selection | null) => void;
  onExpand: (token: string) => void;
  onFold: (nodeId: string) => boolean;
  onDetail: () => void;
}

export function TreeView({
  graph,
  layout,
  focus,
  selection,
  zone,
  onSelect,
  onExpand,
  onFold,
  onDetail,
}: Props) {
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set());
  const [active, setActive] = useState("");
  const body = useRef<HTMLTableSectionElement>(null);
  const list = useMemo(() => rows(graph, layout, closed), [graph, layout, closed]);
  const selectedNode = focus.nodes[0] ?? "";
  const stop = list.some((r) => r.key === active)
    ? active
    : list.some((r) => r.key === selectedNode)
      ? selectedNode
      : list[0]?.key;

  const row = useCallback(
    (key: string) => body.current?.querySelector<HTMLElement>(`[data-row="${CSS.escape(key)}"]`),
    [],
  );
  useEffect(() => {
    if (selectedNode !== "") row(selectedNode)?.scrollIntoView({ block: "nearest" });
  }, [selectedNode, row]);

  const go = (r: Row | undefined) => {
    if (!r) return;
    setActive(r.key);
    row(r.key)?.focus();
    if (r.kind === "node") onSelect({ type: "node", id: r.node.id });
  };
  const toggle = (id: string) => {
    setClosed((before) => {
      const after = new Set(before);
      if (!after.delete(id)) after.add(id);
      return after;
    });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const i = list.findIndex((r) => r.key === stop);
    const r = list[i];
    if (!r) return;
    const handled = () => event.preventDefault();
    switch (event.key) {
      case "ArrowDown":
        handled();
        return go(list[i + 1]);
      case "ArrowUp":
        handled();
        return go(list[i - 1]);
      case "Home":
        handled();
        return go(list[0]);
      case "End":
        handled();
        return go(list[list.length - 1]);
      case "ArrowRight":
        handled();
        if (r.kind === "see") return go(list.find((x) => x.key === r.target));
        if (r.node.expandToken !== "" && !r.expanded) return onExpand(r.node.expandToken);
        if (r.expandable && !r.expanded) return toggle(r.node.id);
        if (r.expanded) return go(list[i + 1]);
        return;
      case "ArrowLeft":
        handled();
        if (r.kind === "node" && onFold(r.node.id)) return;
        if (r.expanded) return toggle(r.node.id);
        for (let k = i - 1; k >= 0; k--) if (list[k]!.level < r.level) return go(list[k]);
        return;
      case "Enter":
      case " ":
        handled();
        if (r.kind === "see") return go(list.find((x) => x.key === r.target));
        onSelect({ type: "node", id: r.node.id });
        if (event.key === "Enter") onDetail();
        return;
    }
  };

  return (
    <div className={css.frame}>
      {/* biome-ignore lint/a11y/noNoninteractiveElementToInteractiveRole: a table is what a tree grid is made of */}
      <table role="treegrid" aria-label="Tree of the story" className={css.table}>
        <thead>
          <tr>
            <th scope="col">Process / object</th>
            <th scope="col">Severity</th>
            <th scope="col">What</th>
            <th scope="col">First seen</th>
            <th scope="col">Last seen</th>
            <th scope="col" className={css.right}>
              ×
            </th>
            <th scope="col">Where</th>
          </tr>
        </thead>
        <tbody ref={body} onKeyDown={onKeyDown}>
          {list.map((r) => {
            const n = r.node;
            const dim = focus.litNodes !== null && !focus.litNodes.has(n.id);
            const selected = r.kind === "node" && selection !== null && focus.nodes.includes(n.id);
            const target = r.kind === "see" ? graph.nodes.find((k) => k.id === r.target) : undefined;
            return (
              <tr
                key={r.key}
                data-row={r.key}
                data-sev={n.severity}
                data-dim={dim || undefined}
                tabIndex={r.key === stop ? 0 : -1}
                aria-level={r.level}
                aria-posinset={r.position}
                aria-setsize={r.size}
                aria-expanded={r.expandable ? r.expanded : undefined}
                aria-selected={selected}
                onFocus={() => setActive(r.key)}
                onClick={() =>
                  r.kind === "see"
                    ? go(list.find((x) => x.key === r.target))
                    : onSelect({ type: "node", id: n.id })
                }
                onDoubleClick={() => (n.expandToken !== "" ? onExpand(n.expandToken) : onDetail())}
              >
                {r.kind === "see" ? (
                  <td colSpan={7} style={{ paddingLeft: 12 + (r.level - 1) * 18 }}>
                    <span className={css.see}>
                      <ArrowRight size={13} aria-hidden="true" />
                      {visible(r.see)}: see <b>{visible(target?.label ?? "")}</b>
                    </span>
                  </td>
                ) : (
                  <>
                    <td className={css.what} style={{ paddingLeft: 12 + (r.level - 1) * 18 }}>
                      <span className={css.thing}>
                        <span
                          className={css.twist}
                          aria-hidden="true"
                          onClick={(event) => {
                            event.stopPropagation();
                            if (n.expandToken !== "") onExpand(n.expandToken);
                            else if (r.expandable) toggle(n.id);
                          }}
                        >
                          {n.expandToken !== "" ? (
                            <Plus size={13} />
                          ) : r.expandable ? (
                            r.expanded ? (
                              <ChevronDown size={13} />
                            ) : (
                              <ChevronRight size={13} />
                            )
                          ) : null}
                        </span>
                        <KindIcon kind={n.kind} size={14} />
                        <span className="sr">{kindWord[n.kind]} </span>
                        <b data-spine={n.spine || undefined}>
                          <Text short={shorten(n.label, 34)}>{n.label}</Text>
                        </b>
                        <span className={css.sub}>
                          <Text>{n.sublabel}</Text>
                        </span>
                        {stateText(n.kind, n.state) !== "" && (
                          <span
                            className={css.state}
                            title={`${stateText(n.kind, n.state)} ${clock(n.stateAt, zone)}`}
                          >
                            <StateIcon state={n.state} size={8} />
                            <span className="sr">{stateText(n.kind, n.state)}</span>
                          </span>
                        )}
                      </span>
                    </td>
                    <td>
                      {n.severity !== "none" && (
                        <span className={css.sev}>
                          <SeverityMark severity={n.severity} size={10} />
                          {severityWord[n.severity]}
                        </span>
                      )}
                    </td>
                    <td className={css.doing}>
                      <Text>{doing(graph, n)}</Text>
                    </td>
                    <td className={css.time}>{clock(n.firstSeen, zone)}</td>
                    <td className={css.time}>{clock(n.lastSeen, zone)}</td>
                    <td className={css.right}>{count(n.count)}</td>
                    <td className={css.where}>{laneName(graph, n.laneId)}</td>
                  </>
                )}
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
