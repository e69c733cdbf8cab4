// What happened, in one sentence: everything below is evidence for it.
import { useState } from "react";
import type { Story } from "../api/types";
import { usePrefs } from "../app/prefs";
import { findEntry } from "../domain/focus";
import { count, plural, visible, words } from "../domain/text";
import { clock, date, duration, ms, type Range, zoneName } from "../domain/time";
import type { Selection } from "../domain/view";
import { Clock, KindIcon, StateIcon, stateWord, TriangleAlert, X } from "../ui/icons";
import { Button, Disclosed } from "../ui/kit";
import { SeverityChip } from "../ui/Severity";
import { Text } from "../ui/Text";
import css from "./StoryHeader.module.css";

interface Props {
  story: Story;
  onSelect: (sel: Selection | null) => void;
  onRange: (range: Range | null) => void;
}

export function StoryHeader({ story, onSelect, onRange }: Props) {
  const { zone } = usePrefs();
  const [hideLoss, setHideLoss] = useState(false);
  const hosts = story.graph.lanes.filter((l) => l.kind === "host" || l.kind === "container" || l.kind === "pod");
  return (
    <header className={css.header}>
      <div className={css.title}>
        <SeverityChip severity={story.severity} score={story.score} />
        <h1>
          <Text>{story.title}</Text>
        </h1>
        <span className={css.state} data-state={story.state}>
          {words(story.state)}
          {story.verdict !== "" && story.verdict !== "unset" && <> · {words(story.verdict)}</>}
          {story.assignee !== "" && <> · {visible(story.assignee)}</>}
        </span>
        {story.recording && <span className={css.recording}>recording</span>}
      </div>
      <p className={css.sentence} data-testid="sentence">
        {story.sentence.map((s, i) =>
          s.node === "" && s.lane === "" ? (
            // biome-ignore lint/suspicious/noArrayIndexKey: the clauses of a sentence never move
            <Text key={i}>{s.text}</Text>
          ) : (
            <button
              // biome-ignore lint/suspicious/noArrayIndexKey: the clauses of a sentence never move
              key={i}
              type="button"
              className={css.clause}
              onClick={() => onSelect(s.node === "" ? { type: "lane", id: s.lane } : { type: "node", id: s.node })}
            >
              <Text>{s.text}</Text>
            </button>
          ),
        )}{" "}
        <WhyScore story={story} onSelect={onSelect} />
      </p>
      <ul className={css.facts}>
        <li>
          <Clock size={13} aria-hidden="true" />
          <span title={`${story.firstSeen} – ${story.lastSeen}`}>
            {date(story.firstSeen, zone)} <b>{clock(story.firstSeen, zone, 0)}</b> – <b>{clock(story.lastSeen, zone, 0)}</b>{" "}
            {zoneName(zone)} ({duration(ms(story.lastSeen) - ms(story.firstSeen))})
          </span>
        </li>
        {hosts.map((l) => (
          <li key={l.id}>
            <KindIcon kind={l.kind === "host" ? "host" : "container"} size={13} />
            <button type="button" className={css.place} onClick={() => onSelect({ type: "lane", id: l.id })}>
              {visible(l.kind)} <b>{visible(l.label)}</b>
            </button>
            {l.state !== "" && (
              <span className={css.life}>
                <StateIcon state={l.state} size={9} /> {stateWord[l.state]}
              </span>
            )}
          </li>
        ))}
        {story.where.users.length > 0 && (
          <li>
            <KindIcon kind="user" size={13} />
            <span>{visible(story.where.users.join(", "))}</span>
          </li>
        )}
        <li className={css.counters}>
          <b>{count(story.signals.length || story.signalCount)}</b> signals · <b>{count(story.events)}</b> events as{" "}
          <b>{count(story.graph.nodes.length)}</b> nodes
        </li>
      </ul>
      {story.tactics.length > 0 && (
        <ol className={css.ribbon} aria-label="Tactics in order of their first sign">
          {story.tactics.map((t) => (
            <li key={t.id} title={`${t.id} ${clock(t.at, zone)}`}>
              {visible(t.name)}
            </li>
          ))}
        </ol>
      )}
      {!hideLoss &&
        story.gaps.map((g) => (
          <div key={g.laneId + g.from} className={css.loss} role="note">
            <TriangleAlert size={14} aria-hidden="true" />
            <span>
              <b>{lossText(story, g)}</b>, {clock(g.from, zone, 0)} – {clock(g.to, zone, 0)}
              {g.reason !== "" && ` (${words(g.reason)})`}. The graph may be incomplete there.
            </span>
            <Button look="link" onPress={() => onRange({ from: ms(g.from) - 10_000, to: ms(g.to) + 10_000 })}>
              Show in timeline
            </Button>
            <Button icon aria-label="Hide this line" onPress={() => setHideLoss(true)}>
              <X size={14} aria-hidden="true" />
            </Button>
          </div>
        ))}
    </header>
  );
}

function lossText(story: Story, gap: Story["gaps"][number]): string {
  const lane = story.graph.lanes.find((l) => l.id === gap.laneId)?.label ?? "";
  const where = lane === "" ? "" : ` on ${visible(lane)}`;
  return gap.lost > 0 ? `${plural(gap.lost, "event")} lost${where}` : `Not watched${where}`;
}

/** The parts of the score, each with the entries it rests on. */
function WhyScore({ story, onSelect }: { story: Story; onSelect: (sel: Selection | null) => void }) {
  const { zone } = usePrefs();
  if (story.scoreParts.length === 0) return null;
  const sum = story.scoreParts.reduce((n, p) => n + p.points, 0);
  return (
    <Disclosed label={`Why ${story.score}?`} title={`Why ${story.score}?`}>
      <div className={css.why}>
        <h3>Why {story.score}?</h3>
        <ul>
          {story.scoreParts.map((p) => (
            <li key={p.text}>
              <b data-minus={p.points < 0 || undefined}>{p.points < 0 ? `−${-p.points}` : `+${p.points}`}</b>
              <div>
                {visible(p.text)}
                <span>
                  {p.entryIds.map((id) => {
                    const entry = findEntry(story.timeline.items, id);
                    return (
                      entry && (
                        <button key={id} type="button" onClick={() => onSelect({ type: "entry", id })} title={visible(entry.text.map((t) => t.text).join(""))}>
                          {clock(entry.at, zone, 1)}
                        </button>
                      )
                    );
                  })}
                </span>
              </div>
            </li>
          ))}
        </ul>
        <p>
          Sum <b>{sum}</b>
          {sum !== story.score && `, shown within 0 and 100 as ${story.score}`}
        </p>
      </div>
    </Disclosed>
  );
}
