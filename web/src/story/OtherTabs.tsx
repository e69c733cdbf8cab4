// The tabs beside Investigate: signals by time, execution contexts with their links, and the story as JSON.
import { useMemo, useState } from "react";
import type { Signal, Story } from "../api/types";
import { usePrefs } from "../app/prefs";
import { rank, severityWord } from "../domain/severity";
import { count, visible, words } from "../domain/text";
import { clock } from "../domain/time";
import type { Selection } from "../domain/view";
import { Button } from "../ui/kit";
import { SeverityMark } from "../ui/Severity";
import { Text } from "../ui/Text";
import css from "./OtherTabs.module.css";

export function SignalsTab({ story, onSelect }: { story: Story; onSelect: (sel: Selection) => void }) {
  const { zone } = usePrefs();
  const entryOf = (eventId: string) => story.timeline.items.find((e) => e.eventIds.includes(eventId));
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region is reachable by keyboard
    <section className={css.page} aria-label="Signals of the story" tabIndex={0}>
      <table className={css.table} aria-label="Signals">
        <thead>
          <tr>
            <th scope="col">Time</th>
            <th scope="col">Severity</th>
            <th scope="col">Rule</th>
            <th scope="col">What</th>
            <th scope="col">Technique</th>
            <th scope="col">Type</th>
            <th scope="col">Context</th>
          </tr>
        </thead>
        <tbody>
          {bySignal(story).map((all) => {
            const s = all[0]!;
            const entry = entryOf(s.eventId);
            const target: Selection | null = entry
              ? { type: "entry", id: entry.id }
              : s.nodeIds[0] !== undefined
                ? { type: "node", id: s.nodeIds[0] }
                : null;
            const techniques = new Map(all.flatMap((x) => x.techniques).map((t) => [t.id, t]));
            return (
              <tr key={s.eventId}>
                <td className={css.time}>{clock(s.at, zone)}</td>
                <td>
                  <span className={css.sev}>
                    <SeverityMark severity={s.severity} size={11} /> {severityWord[s.severity]}
                  </span>
                </td>
                <td>
                  {all.map((x) => (
                    <div key={x.rule.id}>
                      {target ? (
                        <Button look="link" onPress={() => onSelect(target)}>
                          {visible(x.rule.name)}
                        </Button>
                      ) : (
                        visible(x.rule.name)
                      )}
                      {x.suppressed > 0 && (
                        <span className={css.dim}> and {count(x.suppressed)} more, rate-limited</span>
                      )}
                    </div>
                  ))}
                </td>
                <td className={css.what}>
                  <Text>{s.text.map((t) => t.text).join("")}</Text>
                </td>
                <td>
                  {[...techniques.values()].map((t) => (
                    <span key={t.id} className="mono" title={t.name}>
                      {visible(t.id)}{" "}
                    </span>
                  ))}
                </td>
                <td className={css.dim}>{words(s.type)}</td>
                <td className={css.dim}>
                  {words(story.contexts.find((c) => c.key === s.contextKey)?.layer ?? "")}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {story.signals.length === 0 && (
        <p className={css.empty}>No signal is stored for this story any more.</p>
      )}
    </section>
  );
}

/** One event is one signal, with all the rules it matched, the most severe first. */
function bySignal(story: Story): Signal[][] {
  const groups = new Map<string, Signal[]>();
  for (const s of story.signals) groups.set(s.eventId, [...(groups.get(s.eventId) ?? []), s]);
  return [...groups.values()].map((g) => [...g].sort((a, b) => rank(b.severity) - rank(a.severity)));
}

export function ContextTab({ story }: { story: Story }) {
  const name = (key: string) => {
    const c = story.contexts.find((x) => x.key === key);
    return c ? `${words(c.layer)} · ${c.entity}` : key;
  };
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region is reachable by keyboard
    <section className={css.page} aria-label="Contexts of the story" tabIndex={0}>
      <table className={css.table} aria-label="Execution contexts">
        <thead>
          <tr>
            <th scope="col">Layer</th>
            <th scope="col">About</th>
            <th scope="col">Why it was opened</th>
            <th scope="col">Inside of</th>
            <th scope="col">Signals</th>
            <th scope="col">Key</th>
          </tr>
        </thead>
        <tbody>
          {story.contexts.map((c) => (
            <tr key={c.key}>
              <td>
                <b>{visible(words(c.layer))}</b>
              </td>
              <td>
                <Text>{c.entity}</Text>
              </td>
              <td className={css.what}>
                <Text>{c.reason}</Text>
              </td>
              <td className={css.dim}>{c.parentKey === "" ? "–" : visible(name(c.parentKey))}</td>
              <td>{count(c.signals)}</td>
              <td className={css.dim}>
                <Text mono>{c.key}</Text>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <h2 className={css.heading}>Links: why these belong together</h2>
      <table className={css.table} aria-label="Links">
        <thead>
          <tr>
            <th scope="col">Link</th>
            <th scope="col">From</th>
            <th scope="col">To</th>
            <th scope="col">Weight</th>
            <th scope="col">Reason</th>
          </tr>
        </thead>
        <tbody>
          {story.links.map((l) => (
            <tr key={l.type + l.fromContext + l.toContext}>
              <td>
                <b>{visible(words(l.type))}</b>
              </td>
              <td>{visible(name(l.fromContext))}</td>
              <td>{visible(name(l.toContext))}</td>
              <td>{l.weight.toFixed(2)}</td>
              <td className={css.what}>
                <Text>{l.reason}</Text>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {story.links.length === 0 && (
        <p className={css.empty}>One context, or contexts inside each other: no link was needed.</p>
      )}
    </section>
  );
}

/** More than this is not worth reading on a page. */
const shownChars = 200_000;

export function JsonTab({ story }: { story: Story }) {
  const text = useMemo(() => JSON.stringify(story.raw, null, 2), [story.raw]);
  const [copied, setCopied] = useState(false);
  const download = () => {
    const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    const a = document.createElement("a");
    a.href = url;
    a.download = `${story.id.replace(/[^\w-]/g, "_")}.json`;
    a.click();
    URL.revokeObjectURL(url);
  };
  return (
    <div className={css.json}>
      <div className={css.jsonBar}>
        <span>{count(text.length)} characters, as the API answers</span>
        <Button
          look="line"
          onPress={() => {
            void navigator.clipboard?.writeText(text).then(() => setCopied(true));
          }}
        >
          {copied ? "Copied" : "Copy"}
        </Button>
        <Button look="line" onPress={download}>
          Download
        </Button>
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region is reachable by keyboard */}
      <pre className="mono" role="region" tabIndex={0} aria-label="The story as JSON">
        {visibleLines(text.slice(0, shownChars))}
        {text.length > shownChars && "\n… download for the rest"}
      </pre>
    </div>
  );
}

/** JSON escapes control characters itself; marks for the rest, line by line so that breaks stay breaks. */
function visibleLines(text: string): string {
  return text.split("\n").map(visible).join("\n");
}
