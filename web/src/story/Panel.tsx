// The evidence for what is selected. With nothing selected: a summary of the story.
import { type ReactNode, useState } from "react";
import { useEvents } from "../api/queries";
import type { Entry, GraphEdge, GraphNode, Lane, Story } from "../api/types";
import { usePrefs } from "../app/prefs";
import { type Focus, findEntry, within } from "../domain/focus";
import type { Layout } from "../domain/layout";
import { severityWord } from "../domain/severity";
import { count, plural, sentenceCase, path as shortPath, visible, words } from "../domain/text";
import { clock, duration, full, ms } from "../domain/time";
import type { Selection } from "../domain/view";
import labels from "../gen/labels.json";
import { counters, edgeTitle } from "../graph/names";
import { ArrowLeft, ArrowRight, Copy, KindIcon, kindWord, StateIcon, stateText, X } from "../ui/icons";
import { Button } from "../ui/kit";
import { SeverityChip, SeverityMark, SeverityWithWord } from "../ui/Severity";
import { Text } from "../ui/Text";
import css from "./Panel.module.css";

interface Props {
  story: Story;
  layout: Layout;
  selection: Selection | null;
  focus: Focus;
  onSelect: (sel: Selection | null) => void;
  onExpand: (token: string) => void;
}

export function Panel(props: Props) {
  const { story, selection: sel } = props;
  const node = sel?.type === "node" ? story.graph.nodes.find((n) => n.id === sel.id) : undefined;
  if (node) return <NodePanel key={node.id} {...props} node={node} />;
  const edge = sel?.type === "edge" ? story.graph.edges.find((e) => e.id === sel.id) : undefined;
  if (edge) return <EdgePanel key={edge.id} {...props} edge={edge} />;
  const entry = sel?.type === "entry" ? findEntry(story.timeline.items, sel.id) : undefined;
  if (entry) return <EntryPanel key={entry.id} {...props} entry={entry} />;
  const lane = sel?.type === "lane" ? story.graph.lanes.find((l) => l.id === sel.id) : undefined;
  if (lane) return <LanePanel key={lane.id} {...props} lane={lane} />;
  return <SummaryPanel {...props} missing={sel !== null} />;
}

function Head({
  icon,
  title,
  sub,
  onClose,
  sev,
}: {
  icon: ReactNode;
  title: string;
  sub: ReactNode;
  sev?: ReactNode;
  onClose: () => void;
}) {
  return (
    <header className={css.head}>
      <div className={css.headRow}>
        {icon}
        <h2>
          <Text>{title}</Text>
        </h2>
        <CopyButton value={title} what="name" />
        <Button icon aria-label="Close: back to the summary" onPress={onClose}>
          <X size={15} aria-hidden="true" />
        </Button>
      </div>
      <p>{sub}</p>
      {sev}
    </header>
  );
}

function Section({ title, children, aside }: { title: string; children: ReactNode; aside?: ReactNode }) {
  return (
    <section className={css.section}>
      <h3>
        {title} {aside}
      </h3>
      {children}
    </section>
  );
}

function CopyButton({ value, what }: { value: string; what: string }) {
  const [done, setDone] = useState(false);
  return (
    <Button
      icon
      className={css.copy!}
      aria-label={done ? "Copied" : `Copy ${what}`}
      onPress={() => {
        void navigator.clipboard?.writeText(value).then(() => setDone(true));
      }}
    >
      <Copy size={13} aria-hidden="true" data-done={done || undefined} />
    </Button>
  );
}

/** Name and value pairs. Empty values are left out; every value can be copied as it is. */
function Facts({ items }: { items: { label: string; value: string; mono?: boolean; note?: string }[] }) {
  const present = items.filter((f) => f.value !== "");
  return (
    <dl className={css.facts}>
      {present.map((f) => (
        <div key={f.label + f.note}>
          <dt title={f.note}>{f.label}</dt>
          <dd>
            <Text mono={f.mono ?? false}>{f.value}</Text>
            <CopyButton value={f.value} what={f.label} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

function NodeLink({
  story,
  id,
  onSelect,
  note,
}: {
  story: Story;
  id: string;
  onSelect: Props["onSelect"];
  note?: string;
}) {
  const n = story.graph.nodes.find((k) => k.id === id);
  if (!n) return null;
  return (
    <button type="button" className={css.link} onClick={() => onSelect({ type: "node", id })}>
      <KindIcon kind={n.kind} size={14} />
      <SeverityWithWord severity={n.severity} size={9} />
      <span className={css.linkText}>
        <Text short={shortPath(n.label, 44)}>{n.label}</Text>
      </span>
      {note !== undefined && note !== "" && <small>{visible(note)}</small>}
    </button>
  );
}

function EntryList({
  story,
  entries,
  onSelect,
}: {
  story: Story;
  entries: Entry[];
  onSelect: Props["onSelect"];
}) {
  const { zone } = usePrefs();
  const [all, setAll] = useState(false);
  const shown = all ? entries : entries.slice(0, 12);
  return (
    <>
      <ul className={css.entries}>
        {shown.map((e) => (
          <li key={e.id}>
            <button type="button" onClick={() => onSelect({ type: "entry", id: e.id })}>
              <SeverityWithWord severity={e.severity} size={10} />
              <span>
                <Text>{e.text.map((t) => t.text).join("")}</Text>
                {e.count > 1 && <b> ×{count(e.count)}</b>}
                <small>
                  {e.at === "" ? "next step" : clock(e.at, zone)}
                  {e.rule && ` · ${visible(e.rule.name)}`}
                </small>
              </span>
            </button>
          </li>
        ))}
      </ul>
      {shown.length < entries.length && (
        <Button look="link" onPress={() => setAll(true)}>
          All {entries.length}
        </Button>
      )}
      {entries.length === 0 && (
        <p className={css.dim}>No entry of the timeline names {story.id === "" ? "it" : "this"}.</p>
      )}
    </>
  );
}

function State({ kind, state, at }: { kind: GraphNode["kind"]; state: GraphNode["state"]; at: string }) {
  const { zone } = usePrefs();
  const text = stateText(kind, state);
  if (text === "") return null;
  return (
    <span className={css.state}>
      <StateIcon state={state} size={9} /> {text}
      {at !== "" &&
        (state === "alive" ? (
          <span className={css.dim}> as of {clock(at, zone, 0)}</span>
        ) : (
          ` ${clock(at, zone)}`
        ))}
    </span>
  );
}

function NodePanel({ story, layout, node: n, onSelect, onExpand }: Props & { node: GraphNode }) {
  const { zone } = usePrefs();
  const lineage: string[] = [];
  for (let at = layout.parent.get(n.id); at !== undefined; at = layout.parent.get(at)) lineage.unshift(at);
  const outgoing = story.graph.edges.filter((e) => e.source === n.id);
  const incoming = story.graph.edges.filter((e) => e.target === n.id);
  const entries = story.timeline.items.filter((e) => e.nodeIds.includes(n.id));
  const rules = entries.filter((e) => e.rule !== null && e.kind === "signal");
  const why = n.why.length > 0 ? n.why : [...new Set(rules.map((e) => e.rule!.name))];
  const contexts = story.contexts.filter((c) => n.contextKeys.includes(c.key));
  const did = counters(n);
  const lane = story.graph.lanes.find((l) => l.id === n.laneId);
  const eventIds = [...new Set([...incoming, ...outgoing].flatMap((e) => e.eventIds))].slice(0, 20);
  return (
    <>
      <Head
        icon={<KindIcon kind={n.kind} size={17} />}
        title={n.label}
        onClose={() => onSelect(null)}
        sub={
          <>
            {kindWord[n.kind]} {n.sublabel !== "" && <>· {visible(n.sublabel)} </>}·{" "}
            {clock(n.firstSeen, zone)}
            {n.lastSeen !== n.firstSeen && ` – ${clock(n.lastSeen, zone)}`}{" "}
            <State kind={n.kind} state={n.state} at={n.stateAt} />
          </>
        }
        sev={
          n.severity !== "none" ? (
            <p className={css.sevRow}>
              <SeverityChip severity={n.severity} />
              {n.signals > 0 && <span>{plural(n.signals, "signal")}</span>}
              {n.flags.map((f) => (
                <span key={f} className={css.flag}>
                  {visible(words(f))}
                </span>
              ))}
            </p>
          ) : undefined
        }
      />
      {why.length > 0 && (
        <Section title="Why it matters">
          <ul className={css.why}>
            {why.map((w) => {
              const rule = rules.find((e) => e.rule!.name === w);
              return (
                <li key={w}>
                  <SeverityMark severity={rule?.severity ?? n.severity} size={10} />
                  <Text>{w}</Text>
                </li>
              );
            })}
          </ul>
        </Section>
      )}
      {n.kind === "group" && (
        <Section title={`${count(n.count)} folded into one`}>
          <p className={css.dim}>
            {n.varies.length > 0 ? `What varies: ${visible(n.varies.join(", "))}. ` : ""}
            {n.foldReason === "budget"
              ? "Folded to keep the graph readable."
              : "None is more severe than shown."}
          </p>
          <ul className={css.members}>
            {(n.members.length > 0
              ? n.members.map((m) => ({ ...m }))
              : n.samples.map((s) => ({ id: s, label: s, at: "", severity: "none" as const }))
            ).map((m) => (
              <li key={m.id}>
                <SeverityWithWord severity={m.severity} size={9} />
                <Text>{m.label}</Text>
                <small>{clock(m.at, zone)}</small>
              </li>
            ))}
          </ul>
          {n.expandToken !== "" && (
            <Button look="line" onPress={() => onExpand(n.expandToken)}>
              Unfold in the graph
            </Button>
          )}
        </Section>
      )}
      {n.kind === "ancestors" && (
        <Section title="Lineage">
          <p>{visible(n.path.join(" › "))}</p>
          {n.expandToken !== "" && (
            <Button look="line" onPress={() => onExpand(n.expandToken)}>
              Unfold in the graph
            </Button>
          )}
        </Section>
      )}
      {(n.attributes.length > 0 || lane) && (
        <Section title="Facts">
          <Facts
            items={[
              ...n.attributes.map((a) => ({
                label: fieldLabel(a.field, a.label),
                value: a.value,
                mono: true,
                note: a.field,
              })),
              {
                label: lane ? sentenceCase(lane.kind) : "",
                value: lane ? `${lane.label}${lane.sublabel === "" ? "" : ` · ${lane.sublabel}`}` : "",
              },
              { label: "First seen", value: full(n.firstSeen, zone) },
              { label: "Last seen", value: n.lastSeen === n.firstSeen ? "" : full(n.lastSeen, zone) },
            ]}
          />
        </Section>
      )}
      {n.images.length > 0 && (
        <Section title="Programs it was">
          <ol className={css.images}>
            {n.images.map((i) => (
              <li key={i.at + i.path}>
                <Text mono>{i.commandLine || i.path}</Text>
                <small>
                  {clock(i.at, zone)} · <Text>{i.path}</Text>
                  {i.user !== "" && ` · ${visible(i.user)}`}
                </small>
              </li>
            ))}
          </ol>
        </Section>
      )}
      {did.length > 0 && (
        <Section title="Did">
          <ul className={css.did}>
            {did.map((d) => (
              <li key={d.id}>
                <b>{count(d.n)}</b> {d.word}
              </li>
            ))}
          </ul>
        </Section>
      )}
      {lineage.length > 0 && (
        <Section title="Lineage">
          <nav aria-label="Lineage" className={css.crumbs}>
            {lineage.map((id) => (
              <NodeLink key={id} story={story} id={id} onSelect={onSelect} />
            ))}
          </nav>
        </Section>
      )}
      {outgoing.length + incoming.filter((e) => !e.tree).length > 0 && (
        <Section title="Relations">
          <ul className={css.relations}>
            {outgoing.map((e) => (
              <li key={e.id}>
                <ArrowRight size={13} aria-hidden="true" />
                <span className={css.verb}>{relation(e)}</span>
                <NodeLink story={story} id={e.target} onSelect={onSelect} />
              </li>
            ))}
            {incoming
              .filter((e) => !e.tree)
              .map((e) => (
                <li key={e.id}>
                  <ArrowLeft size={13} aria-hidden="true" />
                  <span className={css.verb}>{relation(e)}</span>
                  <NodeLink story={story} id={e.source} onSelect={onSelect} note={e.reason} />
                </li>
              ))}
          </ul>
        </Section>
      )}
      {contexts.length > 0 && (
        <Section title="Execution contexts">
          <Contexts contexts={contexts} />
        </Section>
      )}
      <Section title="In the timeline" aside={<span className={css.n}>{count(entries.length)}</span>}>
        <EntryList story={story} entries={entries} onSelect={onSelect} />
      </Section>
      <Events ids={eventIds} />
    </>
  );
}

function relation(e: GraphEdge): string {
  const ops = Object.keys(e.ops);
  const word = e.label || ops.join(", ");
  return `${visible(word)}${e.count > 1 ? ` ×${count(e.count)}` : ""}${e.refused ? " (refused)" : ""}`;
}

/** The label of a field path: its own, or that of its last part in the message it belongs to. */
function fieldLabel(field: string, label: string): string {
  if (label !== "" && label !== field) return label;
  const all: Record<string, Record<string, string>> = labels;
  const whole = all.fields?.[field];
  if (whole) return whole;
  const [kind = "", ...rest] = field.split(".");
  if (kind === "process" && rest.length === 1) return all.process?.[rest[0]!] ?? field;
  const last = rest.at(-1) ?? "";
  const found = rest.includes("file") || kind === "file" ? all.file?.[last] : all.address?.[last];
  return found ? `${sentenceCase(words(rest.at(-2) ?? kind))} ${found.toLowerCase()}` : field;
}

function EdgePanel({ story, edge: e, onSelect }: Props & { edge: GraphEdge }) {
  const { zone } = usePrefs();
  const entries = story.timeline.items.filter(
    (x) => x.edgeIds.includes(e.id) || (x.nodeIds.includes(e.source) && x.nodeIds.includes(e.target)),
  );
  return (
    <>
      <Head
        icon={<ArrowRight size={17} aria-hidden="true" />}
        title={e.label || e.kind}
        sub={<>relation · {visible(edgeTitle(story.graph, e))}</>}
        onClose={() => onSelect(null)}
        sev={
          e.severity !== "none" ? (
            <p className={css.sevRow}>
              <SeverityChip severity={e.severity} />
            </p>
          ) : undefined
        }
      />
      <Section title="Between">
        <div className={css.crumbs}>
          <NodeLink story={story} id={e.source} onSelect={onSelect} />
          <NodeLink story={story} id={e.target} onSelect={onSelect} />
        </div>
        {e.reason !== "" && <p>{visible(e.reason)}</p>}
      </Section>
      <Section title="Operations">
        <Facts
          items={[
            ...Object.entries(e.ops).map(([op, n]) => ({
              label: words(op),
              value: `${count(n)}${e.refused ? ", refused" : ""}`,
            })),
            { label: "First", value: full(e.firstSeen, zone) },
            { label: "Last", value: e.lastSeen === e.firstSeen ? "" : full(e.lastSeen, zone) },
          ]}
        />
      </Section>
      <Section title="In the timeline" aside={<span className={css.n}>{count(entries.length)}</span>}>
        <EntryList story={story} entries={entries} onSelect={onSelect} />
      </Section>
      <Events ids={e.eventIds} />
    </>
  );
}

function EntryPanel({ story, entry: e, onSelect }: Props & { entry: Entry }) {
  const { zone } = usePrefs();
  const text = e.text.map((t) => t.text).join("");
  const context = story.contexts.find((c) => c.key === e.context?.key);
  return (
    <>
      <Head
        icon={<SeverityMark severity={e.severity} size={14} />}
        title={text}
        sub={
          <>
            {words(e.kind)} · {e.at === "" ? "recommended" : clock(e.at, zone)}
            {e.until !== "" && ` – ${clock(e.until, zone)}`}
            {e.count > 1 && ` · ×${count(e.count)}`}
          </>
        }
        onClose={() => onSelect(null)}
        sev={
          e.severity !== "none" ? (
            <p className={css.sevRow}>
              <SeverityChip severity={e.severity} />
              <span className="sr">{severityWord[e.severity]}</span>
            </p>
          ) : undefined
        }
      />
      {(e.rule || e.techniques.length > 0) && (
        <Section title="Rule">
          {e.rule && (
            <p>
              <b>{visible(e.rule.name)}</b> <span className={`mono ${css.dim}`}>{visible(e.rule.id)}</span>
            </p>
          )}
          {e.techniques.map((t) => (
            <p key={t.id}>
              <span className="mono">{visible(t.id)}</span> {visible(t.name)}
              {t.tactic !== "" && <span className={css.dim}> · {visible(t.tactic)}</span>}
            </p>
          ))}
        </Section>
      )}
      {e.nodeIds.length > 0 && (
        <Section title="What it is about">
          <div className={css.crumbs}>
            {e.nodeIds.map((id) => (
              <NodeLink key={id} story={story} id={id} onSelect={onSelect} />
            ))}
          </div>
        </Section>
      )}
      <Section title="Facts">
        <Facts
          items={[
            { label: "Time", value: full(e.at, zone) },
            { label: "Until", value: full(e.until, zone) },
            { label: "Where", value: story.graph.lanes.find((l) => l.id === e.laneId)?.label ?? "" },
          ]}
        />
      </Section>
      {context && (
        <Section title="Execution context">
          <Contexts contexts={[context]} />
        </Section>
      )}
      <Events ids={e.eventIds.slice(0, 20)} open />
    </>
  );
}

function LanePanel({ story, lane, onSelect }: Props & { lane: Lane }) {
  const { zone } = usePrefs();
  const nodes = story.graph.nodes.filter((n) => within(story.graph, n.laneId, lane.id));
  const gaps = story.graph.gaps.filter((g) => g.laneId === lane.id);
  const severe = nodes.filter((n) => n.severity !== "none" && n.severity !== "info").slice(0, 30);
  return (
    <>
      <Head
        icon={<KindIcon kind={lane.kind === "host" ? "host" : "container"} size={17} />}
        title={lane.label}
        sub={
          <>
            {visible(lane.kind)} {lane.sublabel !== "" && <>· {visible(lane.sublabel)}</>}{" "}
            <State kind="host" state={lane.state} at={lane.stateAt} />
          </>
        }
        onClose={() => onSelect(null)}
      />
      {gaps.length > 0 && (
        <Section title="Not seen">
          <ul className={css.why}>
            {gaps.map((g) => (
              <li key={g.from}>
                <i className={`${css.gapSign} hatch`} />
                {g.text !== "" ? visible(g.text) : plural(g.lost, "event lost", "events lost")},{" "}
                {clock(g.from, zone)} – {clock(g.to, zone)}
              </li>
            ))}
          </ul>
        </Section>
      )}
      <Section
        title="What happened here"
        aside={<span className={css.n}>{plural(nodes.length, "node")}</span>}
      >
        <div className={css.crumbs}>
          {severe.map((n) => (
            <NodeLink key={n.id} story={story} id={n.id} onSelect={onSelect} />
          ))}
        </div>
      </Section>
    </>
  );
}

function SummaryPanel({ story, onSelect, missing }: Props & { missing: boolean }) {
  const { zone } = usePrefs();
  const [allActions, setAllActions] = useState(false);
  const rules = new Map<string, { name: string; n: number; severity: Entry["severity"]; entry: string }>();
  for (const e of story.timeline.items) {
    if (e.kind !== "signal" || !e.rule) continue;
    const known = rules.get(e.rule.id);
    rules.set(e.rule.id, {
      name: e.rule.name,
      severity: e.severity,
      entry: known?.entry ?? e.id,
      n: (known?.n ?? 0) + e.count,
    });
  }
  return (
    <>
      <header className={css.head}>
        <div className={css.headRow}>
          <h2>Summary</h2>
        </div>
        <p>
          {missing
            ? "What the link names is not in the story as shown; it may be folded."
            : "Select anything in the sentence, the graph or the timeline to see the evidence for it."}
        </p>
      </header>
      {story.recommended.length > 0 && (
        <Section title="Do next">
          <ol className={css.actions}>
            {story.recommended.slice(0, allActions ? undefined : 4).map((r) => (
              <li key={r.id + r.label}>
                <ArrowRight size={14} aria-hidden="true" />
                <div>
                  <b>{visible(r.label)}</b>
                  <p>{visible(r.why)}</p>
                  {r.targets.slice(0, 3).map((t) => (
                    <NodeLink key={t} story={story} id={t} onSelect={onSelect} />
                  ))}
                </div>
              </li>
            ))}
          </ol>
          {!allActions && story.recommended.length > 4 && (
            <Button look="link" onPress={() => setAllActions(true)}>
              All {story.recommended.length}
            </Button>
          )}
        </Section>
      )}
      {story.scoreParts.length > 0 && (
        <Section title={`Score ${story.score}`}>
          <ul className={css.score}>
            {story.scoreParts.map((p) => (
              <li key={p.text}>
                <b data-minus={p.points < 0 || undefined}>
                  {p.points < 0 ? `−${-p.points}` : `+${p.points}`}
                </b>
                <span>{visible(p.text)}</span>
              </li>
            ))}
          </ul>
        </Section>
      )}
      <Section title="Rules that fired" aside={<span className={css.n}>{count(rules.size)}</span>}>
        <ul className={css.entries}>
          {[...rules].map(([id, r]) => (
            <li key={id}>
              <button type="button" onClick={() => onSelect({ type: "entry", id: r.entry })}>
                <SeverityWithWord severity={r.severity} size={10} />
                <span>
                  {visible(r.name)}
                  {r.n > 1 && <b> ×{count(r.n)}</b>}
                </span>
              </button>
            </li>
          ))}
        </ul>
      </Section>
      <Section
        title="Execution contexts"
        aside={<span className={css.n}>{count(story.contexts.length)}</span>}
      >
        <Contexts contexts={story.contexts} />
      </Section>
      {story.links.length > 0 && (
        <Section title="Why it is one story">
          <ul className={css.why}>
            {story.links.map((l) => (
              <li key={l.fromContext + l.toContext + l.type}>
                <span className={css.weight} title="Weight of the link">
                  {l.weight.toFixed(2)}
                </span>
                <span>
                  <b>{visible(words(l.type))}</b>
                  <br />
                  {visible(l.reason)}
                </span>
              </li>
            ))}
          </ul>
        </Section>
      )}
      {story.activity.length > 0 && (
        <Section title="Activity">
          <ul className={css.why}>
            {story.activity.map((a) => (
              <li key={a.at + a.kind}>
                <small>{clock(a.at, zone, 0)}</small>
                <span>
                  <b>{visible(a.by)}</b> {visible(words(a.kind))}{" "}
                  {a.to !== "" && <>→ {visible(words(a.to))}</>} {visible(a.comment)}
                </span>
              </li>
            ))}
          </ul>
        </Section>
      )}
      <Section title="Facts">
        <Facts
          items={[
            { label: "Story", value: story.id, mono: true },
            { label: "First seen", value: full(story.firstSeen, zone) },
            { label: "Last seen", value: full(story.lastSeen, zone) },
            { label: "Length", value: duration(ms(story.lastSeen) - ms(story.firstSeen)) },
            { label: "Earlier ids", value: story.redirects.join(" "), mono: true },
          ]}
        />
      </Section>
    </>
  );
}

export function Contexts({ contexts }: { contexts: Story["contexts"] }) {
  return (
    <ul className={css.contexts}>
      {contexts.map((c) => (
        <li key={c.key}>
          <p>
            <b>{visible(words(c.layer))}</b> <Text>{c.entity}</Text>
            {c.signals > 0 && <span className={css.n}>{plural(c.signals, "signal")}</span>}
          </p>
          <p className={css.dim}>{visible(c.reason)}</p>
          <p className={css.key}>
            <Text mono>{c.key}</Text>
            <CopyButton value={c.key} what="correlation key" />
          </p>
        </li>
      ))}
    </ul>
  );
}

/** Single events, asked for when they are opened. */
function Events({ ids, open = false }: { ids: string[]; open?: boolean }) {
  const [shown, setShown] = useState(open);
  const { zone } = usePrefs();
  const { data, isFetching, error } = useEvents(shown ? ids : []);
  if (ids.length === 0) return null;
  return (
    <Section title="Events" aside={<span className={css.n}>{count(ids.length)}</span>}>
      {!shown ? (
        <Button look="line" onPress={() => setShown(true)}>
          Show {plural(ids.length, "event")}
        </Button>
      ) : isFetching && !data ? (
        <p className={css.dim}>Loading</p>
      ) : error ? (
        <p className={css.dim}>The events could not be loaded: {error.message}</p>
      ) : (data ?? []).length === 0 ? (
        <p className={css.dim}>The store no longer has them.</p>
      ) : (
        (data ?? []).map((e) => (
          <details key={e.id} className={css.event} open={(data ?? []).length === 1}>
            <summary>
              <b>{visible(e.kind)}</b> {clock(e.at, zone, 6)}{" "}
              <span className={`mono ${css.dim}`}>{visible(e.id)}</span>
            </summary>
            <Facts
              items={Object.entries(e.fields)
                .sort(([a], [b]) => (a < b ? -1 : 1))
                .map(([field, value]) => ({ label: field, value, mono: true, note: fieldLabel(field, "") }))}
            />
          </details>
        ))
      )}
    </Section>
  );
}
