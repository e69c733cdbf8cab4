// What happened, in one sentence: everything below is evidence for it.
import type { Story } from "../api/types";
import { usePrefs } from "../app/prefs";
import { findEntry } from "../domain/focus";
import { count, plural, sentenceCase, visible, words } from "../domain/text";
import { clock, date, duration, ms, type Range, zoneName } from "../domain/time";
import type { Selection } from "../domain/view";
import { Clock, KindIcon, StateIcon, stateWord, TriangleAlert } from "../ui/icons";
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
  const hosts = story.graph.lanes.filter(
    (l) => l.kind === "host" || l.kind === "container" || l.kind === "pod",
  );
  return (
    <header className={css.header}>
      <div className={css.title}>
        <SeverityChip severity={story.severity} score={story.score} />
        <h1>
          <Text>{story.title}</Text>
        </h1>
        {story.recording && <span className={css.recording}>recording</span>}
        <span className={css.state} data-state={story.state}>
          {sentenceCase(words(story.state))}
          {story.verdict !== "" && story.verdict !== "unset" && <> · {words(story.verdict)}</>}
          {story.assignee !== "" && <> · {visible(story.assignee)}</>}
        </span>
      </div>
      <p className={css.sentence} data-testid="sentence">
        {story.sentence.map((s, i) =>
          s.node === "" && s.lane === "" ? (
            <Text key={i}>{s.text}</Text>
          ) : (
            <button
              key={i}
              type="button"
              className={css.clause}
              onClick={() =>
                onSelect(s.node === "" ? { type: "lane", id: s.lane } : { type: "node", id: s.node })
              }
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
            {date(story.firstSeen, zone)} <b>{clock(story.firstSeen, zone, 0)}</b> –{" "}
            <b>{clock(story.lastSeen, zone, 0)}</b> {zoneName(zone)} (
            {duration(ms(story.lastSeen) - ms(story.firstSeen))})
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
          <b>{count(story.signalCount)}</b> signals · <b>{count(story.events)}</b> events as{" "}
          <b>{count(story.graph.nodes.length)}</b> nodes
        </li>
      </ul>
      <div className={css.line}>
        {story.tactics.length > 0 && (
          <ol className={css.ribbon} aria-label="Tactics in order of their first sign">
            {story.tactics.map((t) => (
              <li key={t.id} title={`${t.id} ${clock(t.at, zone)}`}>
                {visible(t.name)}
              </li>
            ))}
          </ol>
        )}
        <Loss story={story} onRange={onRange} />
      </div>
    </header>
  );
}

/** What was not seen inside the story's time. It cannot be hidden: it bounds what the page can tell. */
function Loss({ story, onRange }: { story: Story; onRange: Props["onRange"] }) {
  const { zone } = usePrefs();
  const [first, ...more] = story.gaps;
  if (!first) return null;
  return (
    <div className={css.loss} role="note">
      <TriangleAlert size={14} aria-hidden="true" />
      <span title={`${words(first.reason)}. The graph may be incomplete there.`}>
        <b>{lossText(story, first)}</b>, {clock(first.from, zone, 0)} – {clock(first.to, zone, 0)}
        {more.length > 0 && ` and ${plural(more.length, "more gap")}`}
      </span>
      <Button
        look="link"
        onPress={() => onRange({ from: ms(first.from) - 10_000, to: ms(first.to) + 10_000 })}
      >
        Show
      </Button>
    </div>
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
                        <button
                          key={id}
                          type="button"
                          onClick={() => onSelect({ type: "entry", id })}
                          title={visible(entry.text.map((t) => t.text).join(""))}
                        >
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
