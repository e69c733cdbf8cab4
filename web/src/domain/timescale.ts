// Geometry of the strip over the timeline: scale, bars, ticks, and the brush with its two thumbs.
import { scaleLinear } from "d3-scale";
import type { Bucket, Severity } from "../api/types";
import { severities } from "../api/types";
import type { Range } from "./time";
import { ms } from "./time";

export interface Strip {
  from: number;
  to: number;
  bucketMs: number;
  bars: Bar[];
}

export interface Bar {
  at: number;
  events: number;
  signals: Partial<Record<Severity, number>>;
  worst: Severity;
  lost: number;
  gap: boolean;
  /** Height, 0 to 1, by square root, so that a burst does not flatten everything else. */
  level: number;
}

/** strip turns the server's buckets into bars; without buckets there is no strip. */
export function strip(buckets: Bucket[], bucketMs: number): Strip | null {
  const usable = buckets.filter((b) => !Number.isNaN(ms(b.at)));
  if (usable.length === 0 || bucketMs <= 0) return null;
  const most = Math.max(1, ...usable.map((b) => b.events));
  const bars = usable.map((b) => ({
    at: ms(b.at),
    events: b.events,
    signals: b.signals,
    worst: [...severities].reverse().find((s) => (b.signals[s] ?? 0) > 0) ?? ("none" as const),
    lost: b.lost,
    gap: b.gap,
    level: b.events === 0 ? 0 : Math.max(0.06, Math.sqrt(b.events / most)),
  }));
  return { from: bars[0]!.at, to: bars[bars.length - 1]!.at + bucketMs, bucketMs, bars };
}

export function scale(s: Strip, width: number) {
  return scaleLinear().domain([s.from, s.to]).range([0, width]).clamp(true);
}

/** gapsOf joins neighbouring buckets in which events are missing. */
export function gapsOf(s: Strip): Range[] {
  const out: Range[] = [];
  for (const b of s.bars) {
    if (!b.gap) continue;
    const last = out.at(-1);
    if (last && b.at <= last.to) last.to = b.at + s.bucketMs;
    else out.push({ from: b.at, to: b.at + s.bucketMs });
  }
  return out;
}

const steps = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5,
  72e5, 108e5, 216e5, 432e5, 864e5,
];

/** ticks gives round moments, far enough from each other to be written out. */
export function ticks(s: Strip, width: number, apart = 96): number[] {
  const least = ((s.to - s.from) * apart) / Math.max(1, width);
  const size = steps.find((x) => x >= least) ?? Math.ceil(least / 864e5) * 864e5;
  const out: number[] = [];
  for (let at = Math.ceil(s.from / size) * size; at <= s.to; at += size) out.push(at);
  return out;
}

/** clamp keeps a range inside the strip and in order; null when it covers everything. */
export function clamp(s: Strip, range: Range): Range | null {
  const a = Math.max(s.from, Math.min(s.to, Math.min(range.from, range.to)));
  const b = Math.max(s.from, Math.min(s.to, Math.max(range.from, range.to)));
  return a <= s.from && b >= s.to ? null : { from: a, to: b };
}

/** nudge moves one thumb by a number of buckets. The thumbs never pass each other. */
export function nudge(s: Strip, range: Range | null, thumb: "from" | "to", buckets: number): Range | null {
  const r = { ...(range ?? { from: s.from, to: s.to }) };
  const moved = Number.isFinite(buckets) ? r[thumb] + buckets * s.bucketMs : buckets < 0 ? s.from : s.to;
  r[thumb] = thumb === "from" ? Math.min(moved, r.to) : Math.max(moved, r.from);
  return clamp(s, r);
}
