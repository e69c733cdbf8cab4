// The graph of a story: cards in one transformed layer, lines in one drawing below them. Positions come from
// domain/layout and mean something, so nothing can be dragged; pan and zoom belong to the person who looks.
import { select } from "d3-selection";
import { type ZoomBehavior, type ZoomTransform, zoom, zoomIdentity } from "d3-zoom";
import {
  type KeyboardEvent,
  memo,
  useCallback,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import type { Gap, Graph, GraphNode, Lane } from "../api/types";
import type { Focus } from "../domain/focus";
import { type Layout, overview, type PlacedEdge } from "../domain/layout";
import { rank } from "../domain/severity";
import { count, plural, label as shorten, visible, words } from "../domain/text";
import { clock, touches, type Zone } from "../domain/time";
import type { Selection } from "../domain/view";
import { across, level, siblings, step } from "../domain/walk";
import { KindIcon, kindWord, Maximize, Minus, Plus, StateIcon, stateText, stateWord } from "../ui/icons";
import { Button } from "../ui/kit";
import { SeverityMark } from "../ui/Severity";
import { Text } from "../ui/Text";
import { EdgeLine } from "./EdgeLine";
import css from "./GraphView.module.css";
import { Legend } from "./Legend";
import { counters, description, edgeTitle, hiddenWords } from "./names";

export interface GraphViewProps {
  graph: Graph;
  layout: Layout;
  focus: Focus;
  selection: Selection | null;
  zone: Zone;
  /** Names the place where pan and zoom are remembered. */
  storyId: string;
  /** Nodes that appeared while the page was open. */
  fresh: ReadonlySet<string>;
  onSelect: (sel: Selection | null) => void;
  /** Unfolds a fold, by its token. */
  onExpand: (token: string) => void;
  /** Folds what a node was unfolded from; false when it was not. */
  onFold: (nodeId: string) => boolean;
  onDetail: () => void;
  onMove: () => void;
}

/** Cards are drawn in full from this zoom on, so the first view does not go below it. */
const least = 0.7;

type Detail = "card" | "name" | "dot";
const detailAt = (k: number): Detail => (k >= least ? "card" : k >= 0.35 ? "name" : "dot");

export function GraphView(props: GraphViewProps) {
  const { graph, layout, focus, selection, zone, storyId, onSelect, onExpand, onFold, onDetail, onMove } =
    props;
  const canvas = useRef<HTMLDivElement>(null);
  const layer = useRef<HTMLDivElement>(null);
  const behavior = useRef<ZoomBehavior<HTMLDivElement, unknown> | null>(null);
  const transform = useRef<ZoomTransform>(zoomIdentity);
  const [detail, setDetail] = useState<Detail>("card");
  const [percent, setPercent] = useState(100);
  /** The person has panned or zoomed: from then on nothing else does. */
  const touched = useRef(false);
  const moved = useRef(onMove);
  moved.current = onMove;

  // Pan and zoom change one style of one element; React hears of it only when the level of detail changes.
  useLayoutEffect(() => {
    const element = canvas.current!;
    const z = zoom<HTMLDivElement, unknown>()
      .scaleExtent([0.12, 2])
      .filter((event: MouseEvent) => event.button === 0 && (event.type === "wheel" || !event.ctrlKey))
      .on("zoom", (event: { transform: ZoomTransform; sourceEvent: unknown }) => {
        const t = event.transform;
        transform.current = t;
        layer.current!.style.transform = `translate(${t.x}px, ${t.y}px) scale(${t.k})`;
        element.style.setProperty("--zoom", String(t.k));
        element.style.backgroundPosition = `${t.x}px ${t.y}px`;
        element.style.backgroundSize = `${24 * t.k}px ${24 * t.k}px`;
        setDetail(detailAt(t.k));
        setPercent(Math.round(t.k * 100));
        if (event.sourceEvent) {
          touched.current = true;
          moved.current();
        }
      })
      .on("end", () => {
        if (!touched.current) return;
        const t = transform.current;
        try {
          sessionStorage.setItem(`clew.zoom.${storyId}`, JSON.stringify([t.x, t.y, t.k]));
        } catch {
          // Not remembered, then.
        }
      });
    behavior.current = z;
    const s = select(element);
    s.call(z).on("dblclick.zoom", null);
    return () => {
      s.on(".zoom", null);
    };
  }, [storyId]);

  const apply = useCallback((t: ZoomTransform) => {
    const element = canvas.current;
    if (element && behavior.current) select(element).call(behavior.current.transform, t);
  }, []);

  /** fitTo shows the whole graph; `smallest` keeps it readable and then shows its main path. */
  const fitTo = useCallback(
    (smallest: number) => {
      const element = canvas.current;
      if (!element || layout.nodes.size === 0) return;
      const pad = 10;
      const w = element.clientWidth - 2 * pad;
      const h = element.clientHeight - 2 * pad - 34;
      const whole = Math.min(1.1, w / layout.width, h / layout.height);
      if (whole >= smallest) {
        apply(zoomIdentity.translate(pad + (w - layout.width * whole) / 2, pad).scale(whole));
        return;
      }
      const box = overview(layout, graph);
      const k = Math.max(smallest, Math.min(1, w / layout.width, h / box.h));
      apply(zoomIdentity.translate(pad - box.x * k, pad - box.y * k).scale(k));
    },
    [apply, layout, graph],
  );

  // At first the remembered place, else the overview, which follows a growing story until somebody takes over.
  const placed = useRef("");
  const quiet = useRef(true);
  quiet.current = selection === null;
  useLayoutEffect(() => {
    if (layout.nodes.size === 0) return;
    if (placed.current === storyId) {
      if (!touched.current && quiet.current) fitTo(least);
      return;
    }
    placed.current = storyId;
    touched.current = false;
    try {
      const kept: unknown = JSON.parse(sessionStorage.getItem(`clew.zoom.${storyId}`) ?? "null");
      if (
        Array.isArray(kept) &&
        kept.length === 3 &&
        kept.every((v) => typeof v === "number" && Number.isFinite(v))
      ) {
        touched.current = true;
        apply(zoomIdentity.translate(kept[0], kept[1]).scale(kept[2]));
        return;
      }
    } catch {
      // Nothing usable kept.
    }
    fitTo(least);
  }, [storyId, layout, fitTo, apply]);

  /** reveal pans as little as needed to bring a card into sight. */
  const reveal = useCallback(
    (id: string) => {
      const p = layout.nodes.get(id);
      const element = canvas.current;
      if (!p || !element) return;
      const t = transform.current;
      const pad = 28;
      const [left, top] = [p.x * t.k + t.x, p.y * t.k + t.y];
      const [right, bottom] = [left + p.w * t.k, top + p.h * t.k];
      let dx = 0;
      let dy = 0;
      if (left < pad) dx = pad - left;
      else if (right > element.clientWidth - pad) dx = element.clientWidth - pad - right;
      if (top < pad) dy = pad - top;
      else if (bottom > element.clientHeight - pad - 20) dy = element.clientHeight - pad - 20 - bottom;
      if (dx !== 0 || dy !== 0) apply(zoomIdentity.translate(t.x + dx, t.y + dy).scale(t.k));
    },
    [apply, layout],
  );

  const first = focus.nodes[0];
  useEffect(() => {
    if (first !== undefined) reveal(first);
  }, [first, reveal]);

  const selected = useMemo(() => new Set(focus.nodes), [focus.nodes]);
  const byId = useMemo(() => new Map(graph.nodes.map((n) => [n.id, n])), [graph]);
  const [active, setActive] = useState("");
  const current = byId.has(active) ? active : (first ?? graph.entryId) || (layout.order[0] ?? "");
  const tabStop = byId.has(current) ? current : (layout.order[0] ?? "");

  const focusCard = (id: string) => {
    setActive(id);
    canvas.current
      ?.querySelector<HTMLElement>(`[data-node="${CSS.escape(id)}"]`)
      ?.focus({ preventScroll: true });
  };

  const follow = useRef({ from: "", index: 0 });
  const onKeyDown = (event: KeyboardEvent) => {
    const id = (event.target as HTMLElement).dataset.node;
    if (id === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const n = byId.get(id);
    const go = (to: string) => {
      event.preventDefault();
      if (to !== id) {
        focusCard(to);
        onSelect({ type: "node", id: to });
      }
    };
    if (event.shiftKey && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
      // Several relations: the same key again leads to the next one.
      const ways = across(graph, id).filter((a) => a.forward === (event.key === "ArrowRight"));
      const index = follow.current.from === id ? follow.current.index % Math.max(1, ways.length) : 0;
      const way = ways[index];
      event.preventDefault();
      if (way) {
        follow.current = { from: id, index: index + 1 };
        go(way.other);
      }
      return;
    }
    switch (event.key) {
      case "ArrowRight":
        if (n && n.expandToken !== "" && !layout.children.has(id)) {
          event.preventDefault();
          onExpand(n.expandToken);
        } else go(step(layout, id, "in"));
        break;
      case "ArrowLeft":
        if (onFold(id)) event.preventDefault();
        else go(step(layout, id, "out"));
        break;
      case "ArrowDown":
        go(step(layout, id, "next"));
        break;
      case "ArrowUp":
        go(step(layout, id, "previous"));
        break;
      case "Home":
        go(step(layout, id, "first"));
        break;
      case "End":
        go(step(layout, id, "last"));
        break;
      case "Enter":
        event.preventDefault();
        onSelect({ type: "node", id });
        onDetail();
        break;
      case " ":
        event.preventDefault();
        onSelect({ type: "node", id });
        break;
      case "+":
      case "=":
        zoomBy(1.25);
        break;
      case "-":
        zoomBy(0.8);
        break;
      case "0":
        fitTo(0);
        break;
    }
  };
  const zoomBy = (factor: number) => {
    const element = canvas.current;
    touched.current = true;
    if (element && behavior.current) select(element).call(behavior.current.scaleBy, factor);
  };

  // Focusing a card must not scroll the canvas: only the transform moves things.
  const onScroll = () => {
    const element = canvas.current;
    if (element) {
      element.scrollLeft = 0;
      element.scrollTop = 0;
    }
  };

  const groups = useMemo(() => {
    const out: { lane: string; ids: string[] }[] = [];
    for (const id of layout.order) {
      const lane = byId.get(id)?.laneId ?? "";
      const last = out[out.length - 1];
      if (last && last.lane === lane) last.ids.push(id);
      else out.push({ lane, ids: [id] });
    }
    return out;
  }, [layout, byId]);

  return (
    <div className={css.frame}>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the cards inside carry the semantics */}
      <div
        ref={canvas}
        className={css.canvas}
        data-lod={detail}
        data-testid="graph-canvas"
        onKeyDown={onKeyDown}
        onScroll={onScroll}
        onClick={(event) => {
          if (event.target === canvas.current || event.target === layer.current) onSelect(null);
        }}
      >
        <div ref={layer} className={css.layer}>
          {layout.lanes.map((l) => (
            <LaneBox
              key={l.id}
              lane={l.lane}
              gaps={graph.gaps.filter((g) => g.laneId === l.id)}
              zone={zone}
              box={l}
              selected={selection?.type === "lane" && selection.id === l.id}
              onSelect={onSelect}
            />
          ))}
          <Lines
            graph={graph}
            edges={layout.edges}
            width={layout.width}
            height={layout.height}
            lit={focus.litEdges}
            selected={focus.edges}
            onSelect={onSelect}
          />
          <div
            role="tree"
            aria-label="Graph of the story"
            className={css.tree}
            style={{ width: layout.width, height: layout.height }}
          >
            {groups.map((g) => (
              <div key={`${g.lane}/${g.ids[0]}`} role="group" aria-label={laneName(graph, g.lane)}>
                {g.ids.map((id) => {
                  const n = byId.get(id)!;
                  const p = layout.nodes.get(id)!;
                  const sib = siblings(layout, id);
                  return (
                    <Card
                      key={id}
                      node={n}
                      x={p.x}
                      y={p.y}
                      h={p.h}
                      level={level(layout, id)}
                      position={sib.indexOf(id) + 1}
                      size={sib.length}
                      hasChildren={layout.children.has(id)}
                      selected={selected.has(id)}
                      dim={focus.litNodes !== null && !focus.litNodes.has(id)}
                      tabStop={id === tabStop}
                      fresh={props.fresh.has(id)}
                      blind={graph.gaps.find(
                        (gap) =>
                          n.kind === "process" &&
                          touches(
                            { from: Date.parse(gap.from), to: Date.parse(gap.to) },
                            n.firstSeen,
                            n.lastSeen,
                          ) &&
                          n.firstSeen !== n.lastSeen,
                      )}
                      hidden={hiddenWords(n, zone)}
                      description={description(graph, n)}
                      dot={detail === "dot"}
                      onSelect={onSelect}
                      onExpand={onExpand}
                      onActive={setActive}
                      onDetail={onDetail}
                    />
                  );
                })}
              </div>
            ))}
          </div>
        </div>
      </div>
      <div className={css.hud}>
        <div className={css.pill}>
          <p>
            <Shown graph={graph} />
          </p>
          <Legend graph={graph} />
        </div>
        <div className={`${css.pill} ${css.zoom}`} role="group" aria-label="Zoom">
          <Button icon aria-label="Zoom out" onPress={() => zoomBy(0.8)}>
            <Minus size={14} aria-hidden="true" />
          </Button>
          <output aria-label="Zoom level">{percent} %</output>
          <Button icon aria-label="Zoom in" onPress={() => zoomBy(1.25)}>
            <Plus size={14} aria-hidden="true" />
          </Button>
          <Button icon aria-label="Fit the whole graph" onPress={() => fitTo(0)}>
            <Maximize size={14} aria-hidden="true" />
          </Button>
        </div>
      </div>
    </div>
  );
}

function Shown({ graph }: { graph: Graph }) {
  const total = Math.max(graph.totals.nodes, graph.nodes.length);
  const hidden = new Map<string, number>();
  for (const h of graph.hidden) hidden.set(h.reason, (hidden.get(h.reason) ?? 0) + h.nodes);
  return (
    <>
      <b>{count(graph.nodes.length)}</b> of {plural(total, "node")}
      {[...hidden].map(
        ([reason, n]) => n > 0 && <span key={reason}> · {`${count(n)} ${words(reason)}`}</span>,
      )}
      {graph.gaps.length > 0 && <span> · {plural(graph.gaps.length, "gap")}</span>}
    </>
  );
}

export function laneName(graph: Graph, id: string): string {
  const lane = graph.lanes.find((l) => l.id === id);
  return lane ? visible(`${lane.kind} ${lane.label}`) : "no place";
}

/** gapWords sums up what was not seen in a lane. */
function gapWords(gaps: Gap[]): string {
  const lost = gaps.reduce((sum, g) => sum + g.lost, 0);
  const parts = gaps.length > 1 ? [plural(gaps.length, "gap")] : [];
  if (lost > 0) parts.push(`${count(lost)} lost`);
  return parts.join(", ") || "gap";
}

interface LaneBoxProps {
  lane: Lane;
  gaps: Gap[];
  zone: Zone;
  box: { x: number; y: number; w: number; h: number; depth: number };
  selected: boolean;
  onSelect: (sel: Selection | null) => void;
}

const LaneBox = memo(function LaneBox({ lane, gaps, zone, box, selected, onSelect }: LaneBoxProps) {
  return (
    <div
      className={css.lane}
      data-depth={box.depth % 2}
      data-selected={selected || undefined}
      data-kind={lane.kind}
      style={{ left: box.x, top: box.y, width: box.w, height: box.h }}
    >
      <button
        type="button"
        tabIndex={-1}
        className={css.laneHead}
        aria-pressed={selected}
        onClick={() => onSelect({ type: "lane", id: lane.id })}
      >
        <KindIcon
          kind={lane.kind === "host" ? "host" : lane.kind === "internet" ? "endpoint" : "container"}
          size={13}
        />
        <span className={css.laneKind}>{visible(lane.kind)}</span>
        <b>
          <Text>{lane.label}</Text>
        </b>
        {lane.sublabel !== "" && <Text>{lane.sublabel}</Text>}
        {lane.state !== "" && (
          <span className={css.laneState}>
            <StateIcon state={lane.state} size={9} />
            {stateWord[lane.state]} {lane.state !== "alive" && clock(lane.stateAt, zone, 0)}
          </span>
        )}
        {gaps.length > 0 && (
          <span className={css.gapBadge} title={gaps.map((g) => visible(g.text)).join("\n")}>
            <i className="hatch" />
            {gapWords(gaps)} {gaps.length === 1 && clock(gaps[0]!.from, zone, 0)}
          </span>
        )}
      </button>
    </div>
  );
});

interface LinesProps {
  graph: Graph;
  edges: PlacedEdge[];
  width: number;
  height: number;
  lit: Set<string> | null;
  selected: string[];
  onSelect: (sel: Selection | null) => void;
}

const Lines = memo(function Lines({ graph, edges, width, height, lit, selected, onSelect }: LinesProps) {
  // What is drawn last lies on top: quiet lines first, the main path and relations over the tree last.
  const sorted = [...edges].sort(
    (a, b) =>
      Number(a.edge.spine) - Number(b.edge.spine) ||
      Number(!a.edge.tree) - Number(!b.edge.tree) ||
      rank(a.edge.severity) - rank(b.edge.severity),
  );
  return (
    <svg className={css.lines} width={width} height={height} aria-hidden="true">
      {sorted.map((e) => (
        <EdgeLine
          key={e.id}
          placed={e}
          title={edgeTitle(graph, e.edge)}
          dim={lit !== null && !lit.has(e.id)}
          selected={selected.includes(e.id)}
          onSelect={onSelect}
        />
      ))}
    </svg>
  );
});

interface CardProps {
  node: GraphNode;
  x: number;
  y: number;
  h: number;
  level: number;
  position: number;
  size: number;
  hasChildren: boolean;
  selected: boolean;
  dim: boolean;
  tabStop: boolean;
  fresh: boolean;
  blind: Gap | undefined;
  hidden: string;
  description: string;
  /** So small that only the severity's shape is drawn. */
  dot: boolean;
  onSelect: (sel: Selection | null) => void;
  onExpand: (token: string) => void;
  onActive: (id: string) => void;
  onDetail: () => void;
}

const Card = memo(function Card(props: CardProps) {
  const { node: n, onSelect, onExpand, onActive, onDetail } = props;
  const folded = n.expandToken !== "";
  const marks = counters(n).slice(0, 3);
  const kind = n.kind === "group" ? ((n.of || "process") as typeof n.kind) : n.kind;
  const sub =
    n.kind === "group" ? (n.varies.length > 0 ? `varies: ${n.varies.join(", ")}` : "folded") : n.sublabel;
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the tree around it handles the keys
    <div
      role="treeitem"
      className={css.card}
      style={{ left: props.x, top: props.y, height: props.h }}
      tabIndex={props.tabStop ? 0 : -1}
      aria-level={props.level}
      aria-posinset={props.position}
      aria-setsize={props.size}
      aria-selected={props.selected}
      aria-expanded={props.hasChildren ? true : folded ? false : undefined}
      aria-description={props.description || undefined}
      data-node={n.id}
      data-kind={n.kind}
      data-sev={n.severity}
      data-spine={n.spine || undefined}
      data-dim={props.dim || undefined}
      data-fresh={props.fresh || undefined}
      data-tall={props.h >= 56 || undefined}
      data-one={props.h < 40 || undefined}
      data-x={Math.round(props.x * 10) / 10}
      data-y={Math.round(props.y * 10) / 10}
      onFocus={() => onActive(n.id)}
      onClick={() => onSelect({ type: "node", id: n.id })}
      onDoubleClick={() => (folded ? onExpand(n.expandToken) : onDetail())}
    >
      <span className={css.kind}>
        <KindIcon kind={n.kind === "group" ? "group" : kind} size={17} />
      </span>
      <span className={css.body}>
        <Text
          className={css.name ?? ""}
          short={shorten(n.label, n.severity !== "none" || n.state !== "" ? 16 : 19)}
        >
          {n.label}
        </Text>
        {props.h >= 40 && sub !== "" && <Text className={css.sub ?? ""}>{sub}</Text>}
        {props.h >= 56 && marks.length > 0 && (
          <span className={css.did} aria-hidden="true">
            {marks.map((m) => (
              <span key={m.id}>
                <b>{count(m.n)}</b> {m.word}
              </span>
            ))}
          </span>
        )}
      </span>
      <span className={css.signs}>
        {n.severity !== "none" && <SeverityMark severity={n.severity} size={12} />}
        {n.count > 1 && <span className={css.times}>×{count(n.count)}</span>}
        {props.h >= 40 && n.kind !== "group" && stateText(n.kind, n.state) !== "" && (
          <StateIcon state={n.state} size={9} />
        )}
      </span>
      {folded && (
        <span
          className={css.plus}
          title="Unfold"
          aria-hidden="true"
          onClick={(event) => {
            event.stopPropagation();
            onExpand(n.expandToken);
          }}
        >
          <Plus size={12} />
        </span>
      )}
      {props.blind && (
        <span
          className={`${css.blind} hatch`}
          title="Events were lost during its life: it may have done more"
        />
      )}
      <span className="sr">
        {props.hidden}
        {props.blind ? ", events were lost during its life" : ""}
      </span>
      {props.dot && (
        <span className={css.dot} aria-hidden="true" title={kindWord[n.kind]}>
          <SeverityMark severity={n.severity} size={30} />
        </span>
      )}
    </div>
  );
});
