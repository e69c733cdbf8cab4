import { describe, expect, it } from "vitest";
import type { Bucket } from "../api/types";
import { clamp, gapsOf, nudge, scale, strip, ticks } from "./timescale";

const start = Date.UTC(2026, 10, 21, 20, 55, 0);
const buckets: Bucket[] = Array.from({ length: 10 }, (_, i) => ({
  at: new Date(start + i * 2000).toISOString(),
  events: i * 10,
  signals: i === 3 ? { low: 2, high: 1 } : {},
  lost: i === 5 ? 214 : 0,
  gap: i === 5,
}));
const s = strip(buckets, 2000)!;

describe("strip", () => {
  it("covers all buckets and names the worst signal of each", () => {
    expect([s.from, s.to]).toEqual([start, start + 20_000]);
    expect(s.bars[3]!.worst).toBe("high");
    expect(s.bars[0]!.worst).toBe("none");
    expect(s.bars[0]!.level).toBe(0);
    expect(s.bars[9]!.level).toBe(1);
    expect(s.bars.filter((b) => b.gap).map((b) => b.lost)).toEqual([214]);
  });

  it("joins gaps that touch", () => {
    expect(gapsOf(s)).toEqual([{ from: start + 10_000, to: start + 12_000 }]);
    const two = strip(
      buckets.map((b, i) => ({ ...b, gap: i === 2 || i === 3 || i === 7 })),
      2000,
    )!;
    expect(gapsOf(two).map((g) => (g.to - g.from) / 2000)).toEqual([2, 1]);
  });

  it("is absent without buckets or with nonsense", () => {
    expect(strip([], 2000)).toBeNull();
    expect(strip([{ at: "soon", events: 1, signals: {}, lost: 0, gap: false }], 2000)).toBeNull();
    expect(strip(buckets, 0)).toBeNull();
  });

  it("puts ticks at round moments, apart from each other", () => {
    const t = ticks(s, 500);
    const x = scale(s, 500);
    for (let i = 1; i < t.length; i++) expect(x(t[i]!) - x(t[i - 1]!)).toBeGreaterThanOrEqual(96);
    expect(t.every((at) => at % 1000 === 0)).toBe(true);
  });
});

describe("brush", () => {
  it("moves one thumb by buckets and never past the other", () => {
    expect(nudge(s, null, "from", 2)).toEqual({ from: start + 4000, to: s.to });
    expect(nudge(s, { from: start + 4000, to: start + 8000 }, "from", 10)).toEqual({
      from: start + 8000,
      to: start + 8000,
    });
    expect(nudge(s, { from: start + 4000, to: start + 8000 }, "to", -1)).toEqual({
      from: start + 4000,
      to: start + 6000,
    });
  });

  it("is gone when it covers everything", () => {
    expect(nudge(s, { from: start + 2000, to: s.to }, "from", Number.NEGATIVE_INFINITY)).toBeNull();
    expect(clamp(s, { from: s.from - 5, to: s.to + 5 })).toBeNull();
    expect(clamp(s, { from: start + 6000, to: start + 2000 })).toEqual({
      from: start + 2000,
      to: start + 6000,
    });
  });
});
