import type { EdgeKind, Graph, Severity } from "../api/types";
import { severities } from "../api/types";
import { severityWord } from "../domain/severity";
import { KindIcon, kindWord } from "../ui/icons";
import { Disclosed } from "../ui/kit";
import { SeverityMark } from "../ui/Severity";
import { Stroke } from "./EdgeLine";
import edgeCss from "./EdgeLine.module.css";
import css from "./Legend.module.css";

const lines: [EdgeKind, string][] = [
  ["spawn", "starts"],
  ["write", "creates, changes, removes"],
  ["read", "opens, reads"],
  ["execute_file", "a written file is executed"],
  ["network", "connects, accepts"],
  ["inject", "traces, injects"],
  ["signal", "signals, kills"],
  ["identity", "changes identity"],
  ["context", "belongs together"],
];

/** What shapes and lines mean; kinds that this graph has none of are left out. */
export function Legend({ graph }: { graph: Graph }) {
  const kinds = [...new Set(graph.nodes.map((n) => n.kind))];
  const edges = new Set(graph.edges.map((e) => e.kind));
  return (
    <Disclosed label="Legend" title="Legend">
      <div className={css.legend}>
        <section>
          <h3>Severity</h3>
          <ul>
            {[...severities]
              .reverse()
              .filter((s): s is Severity => s !== "none")
              .map((s) => (
                <li key={s}>
                  <SeverityMark severity={s} size={12} /> {severityWord[s]}
                </li>
              ))}
          </ul>
        </section>
        <section>
          <h3>Things</h3>
          <ul>
            {kinds.map((k) => (
              <li key={k}>
                <KindIcon kind={k} size={15} /> {kindWord[k]}
              </li>
            ))}
          </ul>
        </section>
        <section>
          <h3>Relations</h3>
          <ul>
            {lines
              .filter(([kind]) => edges.has(kind))
              .map(([kind, text]) => (
                <li key={kind}>
                  <svg width="44" height="12" aria-hidden="true">
                    <g className={edgeCss.edge} data-kind={kind}>
                      <Stroke kind={kind} d="M1 6H36" />
                      <path className={edgeCss.tip} d="M43 6l-7 -3.500v7z" />
                    </g>
                  </svg>
                  {text}
                </li>
              ))}
            <li>
              <svg width="44" height="12" aria-hidden="true">
                <g className={edgeCss.edge} data-spine>
                  <Stroke kind="spawn" d="M1 6H36" />
                  <path className={edgeCss.tip} d="M43 6l-7 -3.500v7z" />
                </g>
              </svg>
              path to the worst impact
            </li>
          </ul>
        </section>
      </div>
    </Disclosed>
  );
}
