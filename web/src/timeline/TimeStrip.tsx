// Counts over time, with a brush. The brush's ends are sliders: everything the pointer does, the keyboard does.
import { type KeyboardEvent, type PointerEvent, useLayoutEffect, useRef, useState } from "react";
import { severityWord } from "../domain/severity";
import { count, plural } from "../domain/text";
import { clockOf, duration, type Range, type Zone, zoneName } from "../domain/time";
import { clamp, gapsOf, nudge, type Strip, scale, ticks } from "../domain/timescale";
import { SeverityShape } from "../ui/Severity";
import css from "./TimeStrip.module.css";

interface Props {
  strip: Strip;
  range: Range | null;
  zone: Zone;
  onRange: (range: Range | null) => void;
}

const height = 44;
const base = 32;

export function TimeStrip({ strip: s, range, zone, onRange }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(800);
  const drag = useRef<{ mode: "new" | "move" | "from" | "to"; start: number; range: Range } | null>(null);
  const [draft, setDraft] = useState<Range | null>(null);

  useLayoutEffect(() => {
    const element = box.current!;
    const observer = new ResizeObserver(() => setWidth(Math.max(100, element.clientWidth)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const x = scale(s, width);
  const shown = draft ?? range;
  const whole: Range = shown ?? { from: s.from, to: s.to };
  const at = (event: PointerEvent) => x.invert(event.clientX - box.current!.getBoundingClientRect().left);

  const begin = (event: PointerEvent, mode: "new" | "move" | "from" | "to") => {
    if (event.button !== 0) return;
    event.preventDefault();
    event.stopPropagation();
    box.current!.setPointerCapture(event.pointerId);
    drag.current = { mode, start: at(event), range: whole };
    if (mode === "from" || mode === "to") (event.currentTarget as HTMLElement).focus();
  };
  const during = (event: PointerEvent) => {
    const d = drag.current;
    if (!d) return;
    const now = at(event);
    if (d.mode === "new") setDraft({ from: Math.min(d.start, now), to: Math.max(d.start, now) });
    else if (d.mode === "move") {
      const delta = Math.max(s.from - d.range.from, Math.min(s.to - d.range.to, now - d.start));
      setDraft({ from: d.range.from + delta, to: d.range.to + delta });
    } else {
      const r = { ...d.range };
      r[d.mode] = d.mode === "from" ? Math.min(now, r.to) : Math.max(now, r.from);
      setDraft(r);
    }
  };
  const end = () => {
    const d = drag.current;
    drag.current = null;
    if (!d || !draft) return;
    // A click without a way is no range.
    if (x(draft.to) - x(draft.from) >= 4) onRange(clamp(s, draft));
    setDraft(null);
  };

  const thumb = (which: "from" | "to") => {
    const value = whole[which];
    return (
      <div
        role="slider"
        tabIndex={0}
        className={css.thumb}
        data-end={which}
        style={{ left: x(value) }}
        aria-label={which === "from" ? "Start of the range" : "End of the range"}
        aria-valuemin={Math.round(s.from)}
        aria-valuemax={Math.round(s.to)}
        aria-valuenow={Math.round(value)}
        aria-valuetext={`${clockOf(value, zone, 1)} ${zoneName(zone)}`}
        onPointerDown={(event) => begin(event, which)}
        onKeyDown={(event: KeyboardEvent) => {
          const many = event.shiftKey ? 10 : 1;
          const by = {
            ArrowRight: many,
            ArrowUp: many,
            ArrowLeft: -many,
            ArrowDown: -many,
            PageUp: 10,
            PageDown: -10,
            Home: Number.NEGATIVE_INFINITY,
            End: Number.POSITIVE_INFINITY,
          }[event.key];
          if (by === undefined) return;
          event.preventDefault();
          onRange(nudge(s, range, which, by));
        }}
      />
    );
  };

  const barWidth = Math.max(1, (width / s.bars.length) * 0.8);
  const lost = s.bars.reduce((sum, b) => sum + b.lost, 0);
  return (
    <div className={css.outer}>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the thumbs inside do the same by keyboard */}
      <div
        ref={box}
        className={css.box}
        onPointerDown={(event) => begin(event, "new")}
        onPointerMove={during}
        onPointerUp={end}
        onPointerCancel={end}
        onDoubleClick={() => onRange(null)}
      >
        <svg
          width={width}
          height={height + 14}
          role="img"
          aria-label={`Events over ${duration(s.to - s.from)}: ${plural(
            s.bars.reduce((sum, b) => sum + b.events, 0),
            "event",
          )}${lost > 0 ? `, ${count(lost)} lost` : ""}`}
        >
          <defs>
            <pattern
              id="gap-hatch"
              width="5"
              height="5"
              patternUnits="userSpaceOnUse"
              patternTransform="rotate(45)"
            >
              <rect width="2" height="5" className={css.hatch} />
            </pattern>
          </defs>
          {gapsOf(s).map((g) => (
            <rect
              key={g.from}
              x={x(g.from)}
              y={0.5}
              width={Math.max(6, x(g.to) - x(g.from))}
              height={base - 0.5}
              fill="url(#gap-hatch)"
              className={css.gap}
            />
          ))}
          {s.bars.map((b) => {
            const left = x(b.at);
            const h = b.level * (base - 8);
            return (
              <g key={b.at}>
                <title>{`${clockOf(b.at, zone, 1)}: ${plural(b.events, "event")}${Object.entries(b.signals)
                  .map(([sev, n]) => `, ${n} ${severityWord[sev as keyof typeof severityWord].toLowerCase()}`)
                  .join("")}${b.lost > 0 ? `, ${b.lost} lost` : ""}`}</title>
                <rect x={left} y={base - h} width={barWidth} height={h} rx="1" className={css.bar} />
                {b.worst !== "none" && (
                  <svg
                    x={left + barWidth / 2 - 4.5}
                    y={Math.max(0, base - h - 11)}
                    width="9"
                    height="9"
                    viewBox="0 0 12 12"
                    data-sev={b.worst}
                  >
                    <SeverityShape severity={b.worst} />
                  </svg>
                )}
              </g>
            );
          })}
          <line x1="0" x2={width} y1={base + 0.5} y2={base + 0.5} className={css.axis} />
          {ticks(s, width).map((t) => (
            <g key={t}>
              <line x1={x(t)} x2={x(t)} y1={base} y2={base + 4} className={css.axis} />
              <text
                x={x(t)}
                y={base + 15}
                className={css.tick}
                textAnchor={x(t) < 30 ? "start" : x(t) > width - 30 ? "end" : "middle"}
              >
                {clockOf(t, zone, s.to - s.from < 20_000 ? 1 : 0)}
              </text>
            </g>
          ))}
        </svg>
        {shown && (
          <>
            <div className={css.out} style={{ left: 0, width: x(whole.from) }} />
            <div className={css.out} style={{ left: x(whole.to), right: 0 }} />
            <div
              className={css.in}
              style={{ left: x(whole.from), width: Math.max(1, x(whole.to) - x(whole.from)) }}
              onPointerDown={(event) => begin(event, "move")}
            />
          </>
        )}
        {thumb("from")}
        {thumb("to")}
      </div>
    </div>
  );
}
