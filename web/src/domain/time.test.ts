import { describe, expect, it } from "vitest";
import { ago, clock, compare, duration, full, ms, touches } from "./time";

const t = "2026-11-21T20:55:02.377204511Z";

describe("times", () => {
  it("shows milliseconds in lists and nanoseconds in full, never rounded", () => {
    expect(clock(t, "utc")).toBe("20:55:02.377");
    expect(clock("2026-11-21T20:55:02.9999Z", "utc")).toBe("20:55:02.999");
    expect(clock("2026-11-21T20:55:02Z", "utc")).toBe("20:55:02.000");
    expect(full(t, "utc")).toBe("2026-11-21 20:55:02.377204511 UTC");
  });

  it("gives nothing for what is no time", () => {
    expect(clock("", "utc")).toBe("");
    expect(ms("yesterday")).toBeNaN();
    expect(full("<script>", "utc")).toBe("");
  });

  it("orders to the nanosecond", () => {
    expect(compare("2026-11-21T20:55:02.000000001Z", "2026-11-21T20:55:02.000000002Z")).toBeLessThan(0);
    expect(compare("2026-11-21T20:55:02.1Z", "2026-11-21T20:55:02.10Z")).toBe(0);
    expect(compare("", t)).toBeGreaterThan(0);
  });

  it("writes lengths in two units", () => {
    expect(duration(192_000)).toBe("3 min 12 s");
    expect(duration(120)).toBe("120 ms");
    expect(duration(2500)).toBe("2.5 s");
    expect(duration(60_000)).toBe("1 min");
    expect(duration(90_061_000)).toBe("1 d 1 h");
    expect(ago(t, ms(t) + 240_000)).toBe("4 min");
  });

  it("finds what lies at least partly in a range", () => {
    const range = { from: ms("2026-11-21T20:55:00Z"), to: ms("2026-11-21T20:56:00Z") };
    expect(touches(range, "2026-11-21T20:54:00Z", "2026-11-21T20:55:01Z")).toBe(true);
    expect(touches(range, "2026-11-21T20:57:00Z", "2026-11-21T20:58:00Z")).toBe(false);
    expect(touches(range, "", "")).toBe(true);
    expect(touches(null, t, t)).toBe(true);
  });
});
