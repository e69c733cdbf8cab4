import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openTokens, range, selection, selectionText, storySearch, toggled } from "./view";

describe("address", () => {
  it("keeps what it knows and drops the rest", () => {
    expect(
      storySearch({
        sel: "node:p_1",
        view: "tree",
        tab: "json",
        open: "g_1,a_1",
        kinds: "signal",
        extra: "x",
      }),
    ).toEqual({ sel: "node:p_1", view: "tree", tab: "json", open: "g_1,a_1", kinds: "signal" });
    expect(storySearch({ sel: "javascript:alert(1)", view: "3d", tab: 4, open: "" })).toEqual({});
  });

  it("takes a range only when both ends are times in order", () => {
    const from = "2026-11-21T20:55:02Z";
    const to = "2026-11-21T20:56:02Z";
    expect(range(storySearch({ from, to }))).toEqual({ from: Date.parse(from), to: Date.parse(to) });
    expect(storySearch({ from: to, to: from })).toEqual({});
    expect(storySearch({ from })).toEqual({});
    expect(storySearch({ from: "x", to: "y" })).toEqual({});
  });

  it("writes and reads selections alike", () => {
    const types = fc.constantFrom("node" as const, "edge" as const, "entry" as const, "lane" as const);
    fc.assert(
      fc.property(
        types,
        fc.string({ minLength: 1 }).filter((s) => !/[\n\r\u2028\u2029]/.test(s)),
        (type, id) => {
          expect(selection(selectionText({ type, id }))).toEqual({ type, id });
        },
      ),
    );
    expect(selection("nothing")).toBeNull();
  });

  it("opens and folds tokens", () => {
    expect(openTokens({ open: "a,b,a" })).toEqual(["a", "b"]);
    expect(toggled(["a"], "b")).toBe("a,b");
    expect(toggled(["a"], "a")).toBeUndefined();
  });
});
