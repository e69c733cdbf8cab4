// The list of stories, the most serious first.
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useMemo, useRef, useState } from "react";
import { useStories } from "../api/queries";
import type { Severity, StorySummary } from "../api/types";
import { usePrefs } from "../app/prefs";
import { useShortcuts } from "../app/shortcuts";
import { Failure, Message, Skeleton } from "../app/states";
import { rank, severityWord } from "../domain/severity";
import { count, plural, sentenceCase, visible, words } from "../domain/text";
import { ago, clock, date, duration, ms } from "../domain/time";
import { ShieldCheck } from "../ui/icons";
import { Segments } from "../ui/kit";
import { SeverityMark } from "../ui/Severity";
import { Text } from "../ui/Text";
import css from "./StoriesPage.module.css";

const levels: Severity[] = ["critical", "high", "medium", "low", "info"];
type Shown = "active" | "open" | "under_review" | "archived" | "all";

export function StoriesPage() {
  const { data, error, isPending, refetch } = useStories();
  const [shown, setShown] = useState<Shown>("active");
  const navigate = useNavigate();
  const [at, setAt] = useState(0);
  const rows = useRef<HTMLTableSectionElement>(null);

  const all = data?.items ?? [];
  const items = useMemo(
    () =>
      (data?.items ?? [])
        .filter((s) => shown === "all" || (shown === "active" ? s.state !== "archived" : s.state === shown))
        .sort((a, b) => b.score - a.score || rank(b.severity) - rank(a.severity) || (a.id < b.id ? -1 : 1)),
    [data, shown],
  );
  const current = Math.min(at, Math.max(0, items.length - 1));

  const move = (delta: number) => {
    const next = Math.max(0, Math.min(items.length - 1, current + delta));
    setAt(next);
    rows.current?.querySelectorAll<HTMLElement>("tr")[next]?.focus();
  };
  const open = (story: StorySummary | undefined) => {
    if (story) void navigate({ to: "/stories/$id", params: { id: story.id } });
  };
  useShortcuts("Stories", [
    { keys: "j", what: "next story", run: () => move(document.activeElement?.closest("tbody") ? 1 : 0) },
    { keys: "k", what: "previous story", run: () => move(-1) },
    { keys: "Enter", what: "open the story" },
    { keys: "o", what: "open the story", run: () => open(items[current]) },
  ]);
  useEffect(() => {
    document.title = "Stories · clew";
  }, []);

  const onKeyDown = (event: React.KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -items.length, End: items.length }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      move(step);
    } else if (event.key === "Enter") {
      event.preventDefault();
      open(items[current]);
    }
  };

  if (error && !data)
    return <Failure error={error} what="The list of stories" onRetry={() => void refetch()} />;
  return (
    <div className={css.page}>
      <div className={css.head}>
        <div>
          <h1>Stories</h1>
          <p>{isPending ? "Loading" : headline(all)}</p>
        </div>
        <Tally stories={all} />
        <Segments<Shown>
          label="State"
          value={shown}
          onChange={setShown}
          options={[
            { id: "active", label: "Open & review", name: "Open and under review" },
            { id: "open", label: "Open", name: "Open" },
            { id: "under_review", label: "Under review", name: "Under review" },
            { id: "archived", label: "Archived", name: "Archived" },
            { id: "all", label: "All", name: "All" },
          ]}
        />
      </div>
      {isPending ? (
        <div className={css.skeletons} role="status" aria-label="Loading stories">
          {["a", "b", "c", "d", "e"].map((k) => (
            <Skeleton key={k} height={58} />
          ))}
        </div>
      ) : items.length === 0 ? (
        <Empty all={all.length} onAll={() => setShown("all")} />
      ) : (
        <div className={css.scroll}>
          <table className={css.table} aria-label="Stories by score">
            <thead>
              <tr>
                <th scope="col" className={css.right}>
                  Score
                </th>
                <th scope="col">Story</th>
                <th scope="col">Where</th>
                <th scope="col">Tactics</th>
                <th scope="col" className={css.right}>
                  Signals
                </th>
                <th scope="col">State</th>
                <th scope="col" className={css.right}>
                  Last seen
                </th>
              </tr>
            </thead>
            <tbody ref={rows} onKeyDown={onKeyDown}>
              {items.map((s, i) => (
                <Row
                  key={s.id}
                  story={s}
                  current={i === current}
                  asOf={ms(data?.asOf ?? "")}
                  onFocus={() => setAt(i)}
                  onOpen={() => open(s)}
                />
              ))}
            </tbody>
          </table>
          {data && data.total > all.length && (
            <p className={css.more}>
              The {count(all.length)} highest of {plural(data.total, "story", "stories")}. The command line
              lists all: <code className="mono">clew stories</code>
            </p>
          )}
        </div>
      )}
    </div>
  );
}

function headline(all: StorySummary[]): string {
  const open = all.filter((s) => s.state === "open").length;
  const review = all.filter((s) => s.state === "under_review").length;
  const running = all.filter((s) => s.active && s.state !== "archived").length;
  const parts = [`${open} open`, `${review} under review`];
  if (running > 0) parts.push(`${running} with something still running`);
  return parts.join(" · ");
}

function Tally({ stories }: { stories: StorySummary[] }) {
  const live = stories.filter((s) => s.state !== "archived");
  return (
    <ul className={css.tally} aria-label="Stories by severity">
      {levels.map((level) => {
        const n = live.filter((s) => s.severity === level).length;
        return (
          <li key={level} data-zero={n === 0 || undefined}>
            <SeverityMark severity={level} size={11} />
            <b>{n}</b>
            <span>{severityWord[level]}</span>
          </li>
        );
      })}
    </ul>
  );
}

interface RowProps {
  story: StorySummary;
  current: boolean;
  asOf: number;
  onFocus: () => void;
  onOpen: () => void;
}

function Row({ story: s, current, asOf, onFocus, onOpen }: RowProps) {
  const { zone } = usePrefs();
  const now = Number.isNaN(asOf) ? Date.now() : asOf;
  return (
    <tr
      className={css.row}
      tabIndex={current ? 0 : -1}
      data-sev={s.severity}
      data-testid="story"
      onFocus={onFocus}
      onClick={(event) => {
        if (!(event.target as HTMLElement).closest("a")) onOpen();
      }}
    >
      <td className={css.score}>
        <span>
          <SeverityMark severity={s.severity} size={13} />
          <b>{s.score}</b>
        </span>
        <small>{severityWord[s.severity]}</small>
      </td>
      <td className={css.what}>
        <a href={`#/stories/${encodeURIComponent(s.id)}`} tabIndex={-1}>
          <Text>{s.title}</Text>
        </a>
        <p>
          {s.sentence.length > 0
            ? s.sentence.map((x, i) => <Text key={i}>{x.text}</Text>)
            : `${plural(s.events, "event")} of ${plural(s.processes, "process", "processes")} in ${duration(ms(s.lastSeen) - ms(s.firstSeen))}`}
        </p>
      </td>
      <td className={css.where}>
        <Text>{s.where.hosts.join(", ")}</Text>
        <small>
          <Text>{s.where.containers.join(", ")}</Text>
        </small>
      </td>
      <td>
        <span className={css.tactics} title={s.tactics.map((t) => t.name).join(" ▸ ")}>
          {s.tactics.map((t) => (
            <abbr key={t.id} title={t.name}>
              {initials(t.name)}
            </abbr>
          ))}
          {s.tactics.length === 0 && <span className={css.none}>–</span>}
        </span>
      </td>
      <td className={css.right}>
        <span className={css.signals}>
          <Spark values={s.spark} />
          <b>{count(s.signalCount)}</b>
        </span>
        {s.lost > 0 && <small className={css.lossy}>{count(s.lost)} lost</small>}
      </td>
      <td>
        <span className={css.state} data-state={s.state}>
          {sentenceCase(words(s.state))}
        </span>
        <small>
          {s.active
            ? "still running"
            : s.verdict !== "" && s.verdict !== "unset"
              ? words(s.verdict)
              : visible(s.assignee)}
        </small>
      </td>
      <td className={css.right}>
        <time dateTime={s.lastSeen} title={`${date(s.lastSeen, zone)} ${clock(s.lastSeen, zone)}`}>
          {ago(s.lastSeen, now)}
        </time>
        <small>{clock(s.lastSeen, zone, 0)}</small>
      </td>
    </tr>
  );
}

/** initials of a tactic: Credential access → CA; one word gives its first two letters. */
function initials(name: string): string {
  const parts = name.split(/[\s-]+/).filter((p) => p !== "and" && p !== "");
  return parts.length > 1
    ? parts.map((p) => p[0]!.toUpperCase()).join("")
    : (parts[0] ?? "").slice(0, 2).replace(/^./, (c) => c.toUpperCase());
}

function Spark({ values }: { values: number[] }) {
  const most = Math.max(1, ...values);
  return (
    <svg width={values.length * 4} height="16" aria-hidden="true" className={css.spark}>
      {values.map((v, i) => {
        const h = v === 0 ? 1 : 2 + (v / most) * 13;
        return (
          <rect key={i} x={i * 4} y={16 - h} width="3" height={h} rx="0.5" data-zero={v === 0 || undefined} />
        );
      })}
    </svg>
  );
}

function Empty({ all, onAll }: { all: number; onAll: () => void }) {
  return (
    <Message
      icon={<ShieldCheck size={24} aria-hidden="true" />}
      title={all === 0 ? "No stories yet" : "No story in this state"}
    >
      {all === 0 ? (
        <>
          <p>Nothing that happened so far makes a story. Single weak signals are kept and stay searchable.</p>
          <p>To see one, play a safe attack that touches only its own temporary folders:</p>
          <pre>clew demo</pre>
        </>
      ) : (
        <p>
          {plural(all, "story", "stories")} in other states.{" "}
          <button type="button" className={css.link} onClick={onAll}>
            Show all
          </button>
        </p>
      )}
    </Message>
  );
}
