// One story: header, graph or tree, timeline, and the evidence for what is selected.
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import {
  type KeyboardEvent,
  type PointerEvent,
  useCallback,
  useEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import { useStory } from "../api/queries";
import type { Story } from "../api/types";
import { usePrefs } from "../app/prefs";
import { useShortcuts } from "../app/shortcuts";
import { Failure, Message, Skeleton } from "../app/states";
import { focusOf } from "../domain/focus";
import { layout as layoutOf } from "../domain/layout";
import { count, plural, visible } from "../domain/text";
import type { Range } from "../domain/time";
import {
  isoTime,
  openTokens,
  range as rangeOf,
  type Selection,
  type StorySearch,
  selection as selectionOf,
  selectionText,
  toggled,
  type View,
} from "../domain/view";
import { GraphView } from "../graph/GraphView";
import { TreeView } from "../graph/TreeView";
import { TimelineView } from "../timeline/TimelineView";
import { X } from "../ui/icons";
import { Button, Segments, Tabs } from "../ui/kit";
import { ContextTab, JsonTab, SignalsTab } from "./OtherTabs";
import { Panel } from "./Panel";
import { StoryHeader } from "./StoryHeader";
import css from "./StoryPage.module.css";

export function StoryPage() {
  const { id } = useParams({ from: "/stories/$id" });
  const search = useSearch({ from: "/stories/$id" });
  const open = useMemo(() => openTokens(search), [search]);
  const query = useStory(id, open);

  if (query.error && !query.data)
    return <Failure error={query.error} what="This story" onRetry={() => void query.refetch()} />;
  if (!query.data) return <Loading />;
  if (query.data.id === "") {
    return (
      <Message level={1} title="There is no such story">
        <p>It may be beyond retention, or it went into another one.</p>
      </Message>
    );
  }
  return <Loaded latest={query.data} search={search} open={open} />;
}

function Loading() {
  return (
    <div className={css.loading} role="status" aria-label="Loading the story">
      <Skeleton height={26} width="52%" />
      <Skeleton height={16} width="80%" />
      <Skeleton height={16} width="34%" />
      <Skeleton height={380} />
      <Skeleton height={220} />
    </div>
  );
}

/** How long a hand on the graph holds back what comes in live. */
const holdMs = 10_000;

/**
 * useSteady gives the story to show. What comes in live is shown at once, unless the person holds something:
 * then it waits until it is applied by hand or the hold ends.
 */
function useSteady(latest: Story, held: () => boolean): { story: Story; waiting: number; apply: () => void } {
  const [shown, setShown] = useState(latest);
  const waiting = shown.id === latest.id && shown.version !== latest.version;
  useEffect(() => {
    if (latest === shown) return;
    if (latest.id !== shown.id || latest.version === shown.version || !held()) {
      setShown(latest);
      return;
    }
    const timer = setInterval(() => {
      if (!held()) setShown(latest);
    }, 1000);
    return () => clearInterval(timer);
  }, [latest, shown, held]);
  const more = Math.max(1, latest.timeline.items.length - shown.timeline.items.length);
  return { story: shown, waiting: waiting ? more : 0, apply: () => setShown(latest) };
}

function Loaded({ latest, search, open }: { latest: Story; search: StorySearch; open: string[] }) {
  const navigate = useNavigate({ from: "/stories/$id" });
  const prefs = usePrefs();
  const movedAt = useRef(Number.NEGATIVE_INFINITY);
  const root = useRef<HTMLDivElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  const [panelOpen, setPanelOpen] = useState(true);

  const held = useCallback(() => performance.now() - movedAt.current < holdMs, []);
  const onMove = useCallback(() => {
    movedAt.current = performance.now();
  }, []);
  const { story, waiting, apply } = useSteady(latest, held);

  const set = useCallback(
    (change: Partial<StorySearch>, replace = true) =>
      void navigate({ search: (before: StorySearch) => ({ ...before, ...change }), replace }),
    [navigate],
  );
  const sel = useMemo(() => selectionOf(search.sel), [search.sel]);
  const range = useMemo(() => rangeOf(search), [search]);
  const view = search.view ?? "graph";
  const tab = search.tab ?? "investigate";

  const layout = useMemo(() => layoutOf(story.graph), [story.graph]);
  const focus = useMemo(() => focusOf(story.graph, story.timeline.items, sel, range), [story, sel, range]);

  // What appeared since the page was opened, to be shown as new for a moment.
  const known = useRef<{ id: string; open: string; nodes: Set<string> } | null>(null);
  const fresh = useMemo(() => {
    const ids = new Set(story.graph.nodes.map((n) => n.id));
    const key = open.join(",");
    const before = known.current;
    known.current = { id: story.id, open: key, nodes: ids };
    if (!before || before.id !== story.id) return new Set<string>();
    return new Set([...ids].filter((id) => !before.nodes.has(id)));
  }, [story, open]);

  const onSelect = useCallback(
    (next: Selection | null) => {
      movedAt.current = performance.now();
      set({ sel: selectionText(next) });
    },
    [set],
  );
  const onRange = useCallback(
    (next: Range | null) =>
      set(next ? { from: isoTime(next.from), to: isoTime(next.to) } : { from: undefined, to: undefined }),
    [set],
  );

  // Which fold a card came out of: remembered from before it was unfolded.
  const unfolded = useRef(new Map<string, { token: string; label: string; members: Set<string> }>());
  const onExpand = useCallback(
    (token: string) => {
      const fold = story.graph.nodes.find((n) => n.expandToken === token);
      if (fold) {
        unfolded.current.set(token, {
          token,
          label: fold.label,
          members: new Set(fold.members.map((m) => m.id)),
        });
      }
      if (!open.includes(token)) set({ open: toggled(open, token) });
    },
    [open, set, story],
  );
  const fold = useCallback((token: string) => set({ open: toggled(open, token) }), [open, set]);
  const onFold = useCallback(
    (nodeId: string) => {
      for (const f of unfolded.current.values()) {
        if (f.members.has(nodeId) && open.includes(f.token)) {
          fold(f.token);
          return true;
        }
      }
      return false;
    },
    [open, fold],
  );
  const onDetail = useCallback(() => {
    setPanelOpen(true);
    requestAnimationFrame(() => panel.current?.focus());
  }, []);

  const focusIn = (selector: string) => root.current?.querySelector<HTMLElement>(selector)?.focus();
  const stepEntry = (delta: number) => {
    const items = story.timeline.items;
    const at = items.findIndex((e) => sel?.type === "entry" && e.id === sel.id);
    const next = items[at < 0 ? (delta > 0 ? 0 : items.length - 1) : at + delta];
    if (next) onSelect({ type: "entry", id: next.id });
  };
  const tabKeys = ["investigate", "signals", "context", "json"] as const;
  useShortcuts("Story", [
    ...tabKeys.map((t, i) => ({
      keys: String(i + 1),
      what: `tab ${t}`,
      run: () => set({ tab: t === "investigate" ? undefined : t }),
    })),
    {
      keys: "v",
      what: "graph or tree",
      run: () => set({ view: view === "graph" ? "tree" : undefined, tab: undefined }),
    },
    {
      keys: "w",
      what: "to the graph or tree",
      run: () => focusIn('[role="treeitem"][tabindex="0"], [role="treegrid"] tr[tabindex="0"]'),
    },
    { keys: "t", what: "to the timeline", run: () => focusIn('#timeline [role="row"][tabindex="0"]') },
    {
      keys: "p",
      what: "to the evidence",
      run: onDetail,
    },
    { keys: ",", what: "previous timeline entry", run: () => stepEntry(-1) },
    { keys: ";", what: "next timeline entry", run: () => stepEntry(1) },
    { keys: ".", what: "apply new data", run: apply },
    {
      keys: "Escape",
      what: "clear the selection, then the range",
      run: () => {
        if (sel) onSelect(null);
        else if (range) onRange(null);
      },
    },
  ]);
  useShortcuts("Graph and tree", [
    { keys: "ArrowRight", what: "first child, or unfold" },
    { keys: "ArrowLeft", what: "parent, or fold" },
    { keys: "ArrowDown", what: "next" },
    { keys: "ArrowUp", what: "previous" },
    { keys: "Shift ArrowRight", what: "follow a relation over the tree" },
    { keys: "Shift ArrowLeft", what: "back along one" },
    { keys: "Enter", what: "evidence of the node" },
    { keys: "+", what: "zoom in" },
    { keys: "-", what: "zoom out" },
    { keys: "0", what: "fit" },
  ]);

  useEffect(() => {
    document.title = `${visible(story.title)} · clew`;
  }, [story.title]);

  return (
    <div className={css.page} ref={root}>
      <StoryHeader story={story} onSelect={onSelect} onRange={onRange} />
      <Tabs
        label="Parts of the story"
        value={tab}
        onChange={(t) => set({ tab: t === "investigate" ? undefined : t })}
        options={[
          { id: "investigate", label: "Investigate" },
          { id: "signals", label: <TabLabel word="Signals" n={story.signalCount} /> },
          { id: "context", label: <TabLabel word="Contexts" n={story.contexts.length} /> },
          { id: "json", label: "JSON" },
        ]}
        tools={
          <div className={css.tools}>
            <span aria-live="polite">
              {waiting > 0 && (
                <Button look="chip" onPress={apply}>
                  {plural(waiting, "new entry", "new entries")} · apply <kbd>.</kbd>
                </Button>
              )}
            </span>
            {open.map((token) => (
              <Button
                key={token}
                look="chip"
                aria-label={`Fold ${unfolded.current.get(token)?.label ?? token}`}
                onPress={() => fold(token)}
              >
                {visible(unfolded.current.get(token)?.label ?? "unfolded")} <X size={12} aria-hidden="true" />
              </Button>
            ))}
            {tab === "investigate" && (
              <>
                <Segments<View>
                  label="View"
                  value={view}
                  onChange={(v) => set({ view: v === "graph" ? undefined : v })}
                  options={[
                    { id: "graph", label: "Graph", name: "Graph" },
                    { id: "tree", label: "Tree", name: "Tree" },
                  ]}
                />
                <Button aria-pressed={panelOpen} onPress={() => setPanelOpen((o) => !o)}>
                  {panelOpen ? "Hide evidence" : "Show evidence"}
                </Button>
              </>
            )}
          </div>
        }
      >
        {tab === "investigate" && (
          <div className={css.body}>
            <div className={css.centre}>
              <section className={css.picture} aria-label={view === "graph" ? "Graph" : "Tree"}>
                {story.graph.nodes.length === 0 ? (
                  <Message title="No graph">
                    <p>
                      No process, file or address of this story is known. The timeline below has what there
                      is.
                    </p>
                  </Message>
                ) : view === "graph" ? (
                  <GraphView
                    graph={story.graph}
                    layout={layout}
                    focus={focus}
                    selection={sel}
                    zone={prefs.zone}
                    storyId={story.id}
                    fresh={fresh}
                    onSelect={onSelect}
                    onExpand={onExpand}
                    onFold={onFold}
                    onDetail={onDetail}
                    onMove={onMove}
                  />
                ) : (
                  <TreeView
                    graph={story.graph}
                    layout={layout}
                    focus={focus}
                    selection={sel}
                    zone={prefs.zone}
                    onSelect={onSelect}
                    onExpand={onExpand}
                    onFold={onFold}
                    onDetail={onDetail}
                  />
                )}
              </section>
              <Splitter
                label="Height of the timeline"
                orientation="horizontal"
                value={prefs.timelineHeight}
                min={120}
                max={620}
                onChange={(timelineHeight) => prefs.set({ timelineHeight })}
              />
              <div className={css.timeline} style={{ flexBasis: prefs.timelineHeight }}>
                <TimelineView
                  story={story}
                  focus={focus}
                  selection={sel}
                  range={range}
                  kinds={search.kinds}
                  zone={prefs.zone}
                  onSelect={onSelect}
                  onRange={onRange}
                  onKinds={(kinds) => set({ kinds })}
                />
              </div>
            </div>
            {panelOpen && (
              <>
                <Splitter
                  label="Width of the evidence"
                  orientation="vertical"
                  value={prefs.panelWidth}
                  min={280}
                  max={720}
                  onChange={(panelWidth) => prefs.set({ panelWidth })}
                />
                <aside
                  className={css.panel}
                  style={{ width: prefs.panelWidth }}
                  aria-label="Evidence"
                  ref={panel}
                  tabIndex={-1}
                >
                  <Panel
                    story={story}
                    layout={layout}
                    selection={sel}
                    focus={focus}
                    onSelect={onSelect}
                    onExpand={onExpand}
                  />
                </aside>
              </>
            )}
          </div>
        )}
        {tab === "signals" && (
          <SignalsTab story={story} onSelect={(s) => set({ sel: selectionText(s), tab: undefined })} />
        )}
        {tab === "context" && <ContextTab story={story} />}
        {tab === "json" && <JsonTab story={story} />}
      </Tabs>
    </div>
  );
}

function TabLabel({ word, n }: { word: string; n: number }) {
  return (
    <>
      {word} <span className={css.badge}>{count(n)}</span>
    </>
  );
}

interface SplitterProps {
  label: string;
  orientation: "horizontal" | "vertical";
  value: number;
  min: number;
  max: number;
  onChange: (value: number) => void;
}

/** The border between two parts, moved by pointer or arrows. The part after it has the size. */
function Splitter({ label, orientation, value, min, max, onChange }: SplitterProps) {
  const start = useRef<{ at: number; value: number } | null>(null);
  const bound = (v: number) => Math.max(min, Math.min(max, Math.round(v)));
  const position = (event: PointerEvent) => (orientation === "horizontal" ? event.clientY : event.clientX);
  return (
    <div
      role="separator"
      tabIndex={0}
      aria-label={label}
      aria-orientation={orientation}
      aria-valuenow={value}
      aria-valuemin={min}
      aria-valuemax={max}
      className={css.splitter}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        start.current = { at: position(event), value };
      }}
      onPointerMove={(event) => {
        if (start.current) onChange(bound(start.current.value - (position(event) - start.current.at)));
      }}
      onPointerUp={() => {
        start.current = null;
      }}
      onKeyDown={(event: KeyboardEvent) => {
        const by = { ArrowUp: 16, ArrowLeft: 16, ArrowDown: -16, ArrowRight: -16 }[event.key];
        if (by === undefined) return;
        event.preventDefault();
        onChange(bound(value + by));
      }}
    />
  );
}
