// When things happened: a strip with counts, gaps and a brush, and below it the list of entries.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, useEffect, useMemo, useRef, useState } from "react";
import type { Entry, EntryKind, Story } from "../api/types";
import type { Focus } from "../domain/focus";
import { marks } from "../domain/focus";
import { severityWord } from "../domain/severity";
import { count, plural, sentenceCase, label as shorten } from "../domain/text";
import { clock, date, type Range, touches, type Zone, zoneName } from "../domain/time";
import { strip } from "../domain/timescale";
import type { Selection } from "../domain/view";
import { ArrowRight, ChevronDown, ChevronRight } from "../ui/icons";
import { Button } from "../ui/kit";
import { SeverityMark } from "../ui/Severity";
import { Text } from "../ui/Text";
import css from "./TimelineView.module.css";
import { TimeStrip } from "./TimeStrip";

interface Props {
  story: Story;
  focus: Focus;
  selection: Selection | null;
  range: Range | null;
  kinds: string | undefined;
  zone: Zone;
  onSelect: (sel: Selection | null) => void;
  onRange: (range: Range | null) => void;
  onKinds: (kinds: string | undefined) => void;
}

const kindWords: Record<EntryKind, [string, string]> = {
  signal: ["Signal", "Signals"],
  event: ["Event", "Events"],
  state: ["State", "State"],
  audit: ["Audit", "Audit"],
  finding: ["Finding", "Findings"],
  triage: ["Triage", "Triage"],
  note: ["Note", "Notes"],
  response: ["Response", "Responses"],
  notification: ["Notification", "Notifications"],
  gap: ["Gap", "Gaps"],
  action: ["Next step", "Next steps"],
};

interface Line {
  entry: Entry;
  depth: number;
}

export function TimelineView({
  story,
  focus,
  selection,
  range,
  kinds,
  zone,
  onSelect,
  onRange,
  onKinds,
}: Props) {
  const items = story.timeline.items;
  const [unfolded, setUnfolded] = useState<ReadonlySet<string>>(new Set());
  const scroller = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState("");

  const present = useMemo(
    () =>
      (Object.keys(kindWords) as EntryKind[])
        .map((kind) => ({ kind, n: items.filter((e) => e.kind === kind).length }))
        .filter((k) => k.n > 0),
    [items],
  );
  const shown = useMemo(
    () => new Set(kinds === undefined ? present.map((k) => k.kind) : kinds.split(",")),
    [kinds, present],
  );

  const lines = useMemo(() => {
    const out: Line[] = [];
    const visit = (entry: Entry, depth: number) => {
      out.push({ entry, depth });
      if (unfolded.has(entry.id)) for (const m of entry.members) visit(m, depth + 1);
    };
    for (const e of items) {
      if (shown.has(e.kind) && (e.at === "" || touches(range, e.at, e.until || e.at))) visit(e, 0);
    }
    return out;
  }, [items, shown, range, unfolded]);

  const s = useMemo(() => strip(story.timeline.buckets, story.timeline.bucketMs), [story.timeline]);
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => 27,
    overscan: 12,
    getItemKey: (i) => lines[i]!.entry.id,
  });

  // The first entry of a selection made elsewhere comes into view.
  const firstMarked = lines.findIndex((l) => marks(l.entry, selection, focus));
  const selKey = selection ? `${selection.type}:${selection.id}` : "";
  useEffect(() => {
    if (selKey !== "" && firstMarked >= 0) virtual.scrollToIndex(firstMarked, { align: "auto" });
  }, [selKey, firstMarked, virtual]);

  // One row takes the focus by Tab, and it must be one that is drawn: the list is virtual.
  const drawn = virtual.getVirtualItems();
  const wanted = lines.findIndex((l) => l.entry.id === active);
  const near = wanted >= 0 ? wanted : firstMarked;
  const top = virtual.scrollOffset ?? 0;
  const at = drawn.some((v) => v.index === near) ? near : (drawn.find((v) => v.start >= top)?.index ?? 0);
  const stop = lines[at]?.entry.id ?? "";

  const go = (index: number) => {
    const line = lines[Math.max(0, Math.min(lines.length - 1, index))];
    if (!line) return;
    setActive(line.entry.id);
    onSelect({ type: "entry", id: line.entry.id });
    virtual.scrollToIndex(lines.indexOf(line), { align: "auto" });
    requestAnimationFrame(() =>
      scroller.current
        ?.querySelector<HTMLElement>(`[data-entry="${CSS.escape(line.entry.id)}"]`)
        ?.focus({ preventScroll: true }),
    );
  };
  const toggle = (id: string) =>
    setUnfolded((before) => {
      const after = new Set(before);
      if (!after.delete(id)) after.add(id);
      return after;
    });
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const i = lines.findIndex((l) => l.entry.id === stop);
    const line = lines[i];
    const to = {
      ArrowDown: i + 1,
      ArrowUp: i - 1,
      Home: 0,
      End: lines.length - 1,
      PageDown: i + 8,
      PageUp: i - 8,
    }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      go(to);
    } else if (line && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      onSelect({ type: "entry", id: line.entry.id });
    } else if (
      line &&
      line.entry.members.length > 0 &&
      (event.key === "ArrowRight" || event.key === "ArrowLeft")
    ) {
      event.preventDefault();
      if (unfolded.has(line.entry.id) === (event.key === "ArrowLeft")) toggle(line.entry.id);
    }
  };

  const choose = (kind: EntryKind, only: boolean) => {
    const next = only ? new Set<string>([kind]) : new Set(shown);
    if (!only && !next.delete(kind)) next.add(kind);
    const all = present.every((k) => next.has(k.kind));
    onKinds(all ? undefined : [...next].join(",") || "none");
  };

  return (
    <section className={css.frame} aria-label="Timeline" id="timeline">
      <div className={css.bar}>
        <h2>Timeline</h2>
        <div className={css.chips} role="group" aria-label="Kinds shown">
          {present.map(({ kind, n }) => (
            <button
              key={kind}
              type="button"
              className={css.chip}
              aria-pressed={shown.has(kind)}
              title="Alt and click: only this"
              onClick={(event) => choose(kind, event.altKey)}
            >
              {kindWords[kind][n === 1 ? 0 : 1]} <b>{count(n)}</b>
            </button>
          ))}
        </div>
        <span className={css.range}>
          {range ? (
            <>
              {clock(new Date(range.from).toISOString(), zone, 1)} –{" "}
              {clock(new Date(range.to).toISOString(), zone, 1)}
              <Button look="link" onPress={() => onRange(null)}>
                Whole story
              </Button>
            </>
          ) : (
            <>
              {date(story.firstSeen, zone)} {zoneName(zone)}
            </>
          )}
        </span>
      </div>
      {s && <TimeStrip strip={s} range={range} zone={zone} onRange={onRange} />}
      <div ref={scroller} className={css.list}>
        <div
          role="grid"
          aria-label="Entries"
          aria-rowcount={lines.length}
          style={{ height: virtual.getTotalSize(), position: "relative" }}
          onKeyDown={onKeyDown}
        >
          {drawn.map((v) => {
            const { entry: e, depth } = lines[v.index]!;
            return (
              // biome-ignore lint/a11y/useKeyWithClickEvents: the grid handles the keys of its rows
              <div
                key={v.key}
                role="row"
                aria-rowindex={v.index + 1}
                aria-selected={selection?.type === "entry" && selection.id === e.id}
                className={css.row}
                data-entry={e.id}
                data-kind={e.kind}
                data-sev={e.severity}
                data-marked={marks(e, selection, focus) || undefined}
                tabIndex={e.id === stop ? 0 : -1}
                style={{ top: v.start, height: 27 }}
                onFocus={() => setActive(e.id)}
                onClick={() => onSelect({ type: "entry", id: e.id })}
              >
                <span role="gridcell" className={css.time}>
                  {e.at === "" ? "next" : clock(e.at, zone)}
                </span>
                <span role="gridcell" className={css.sign}>
                  <Sign entry={e} />
                </span>
                <span role="gridcell" className={css.text} style={{ paddingLeft: depth * 18 }}>
                  <span className={css.sentence}>
                    {e.text.map((x, i) =>
                      x.node === "" && x.lane === "" ? (
                        <Text key={i}>{x.text}</Text>
                      ) : (
                        // biome-ignore lint/a11y/useKeyWithClickEvents: the panel of the entry lists its nodes as buttons
                        // biome-ignore lint/a11y/noStaticElementInteractions: a shortcut for the pointer
                        <span
                          key={i}
                          className={css.name}
                          onClick={(event) => {
                            event.stopPropagation();
                            onSelect(
                              x.node === "" ? { type: "lane", id: x.lane } : { type: "node", id: x.node },
                            );
                          }}
                        >
                          <Text short={shorten(x.text, 46)}>{x.text}</Text>
                        </span>
                      ),
                    )}
                  </span>
                  {e.count > 1 && <b className={css.times}>×{count(e.count)}</b>}
                  {e.members.length > 0 && (
                    <button
                      type="button"
                      tabIndex={-1}
                      className={css.unfold}
                      aria-label={
                        unfolded.has(e.id) ? "Fold" : `Unfold ${plural(e.members.length, "entry", "entries")}`
                      }
                      onClick={(event) => {
                        event.stopPropagation();
                        toggle(e.id);
                      }}
                    >
                      {unfolded.has(e.id) ? <ChevronDown size={13} /> : <ChevronRight size={13} />}
                    </button>
                  )}
                </span>
                <span role="gridcell" className={css.rule}>
                  {e.rule && <Text>{e.rule.name}</Text>}
                </span>
                <span role="gridcell" className={css.technique}>
                  {e.techniques.slice(0, 1).map((t) => (
                    <span key={t.id} title={t.name} className="mono">
                      {t.id}
                    </span>
                  ))}
                </span>
                <span role="gridcell" className={css.lane}>
                  <Text>{story.graph.lanes.find((l) => l.id === e.laneId)?.label ?? ""}</Text>
                </span>
              </div>
            );
          })}
        </div>
        {lines.length === 0 && (
          <p className={css.empty}>
            No entry {range ? "in this range of time" : "of the kinds chosen"}.{" "}
            <Button
              look="link"
              onPress={() => {
                onRange(null);
                onKinds(undefined);
              }}
            >
              Show all
            </Button>
          </p>
        )}
      </div>
    </section>
  );
}

/** The sign before an entry: severity, or what else it is. */
function Sign({ entry: e }: { entry: Entry }) {
  if (e.kind === "gap") {
    return (
      <>
        <i className={`${css.gap} hatch`} />
        <span className="sr">gap</span>
      </>
    );
  }
  if (e.kind === "action") {
    return (
      <>
        <ArrowRight size={13} aria-hidden="true" />
        <span className="sr">next step</span>
      </>
    );
  }
  return (
    <>
      <SeverityMark severity={e.kind === "signal" || e.severity !== "none" ? e.severity : "none"} size={11} />
      <span className="sr">{sentenceCase(`${severityWord[e.severity]} ${e.kind}`.trim())}</span>
    </>
  );
}
