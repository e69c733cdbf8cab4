import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { frame, Splitter } from "./frames";

describe("frames", () => {
  it("come out whole wherever the stream was cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.jsonValue(), { maxLength: 6 }),
        fc.array(fc.nat({ max: 40 }), { minLength: 1 }),
        (messages, cuts) => {
          const bytes = messages.flatMap((m) => [...frame(m)]);
          const splitter = new Splitter();
          const out: string[] = [];
          for (let at = 0, i = 0; at < bytes.length; i++) {
            const size = 1 + cuts[i % cuts.length]!;
            for (const f of splitter.push(Uint8Array.from(bytes.slice(at, at + size)))) out.push(f.text);
            at += size;
          }
          expect(out).toEqual(messages.map((m) => JSON.stringify(m)));
        },
      ),
    );
  });

  it("knows the last one", () => {
    const bytes = frame({ error: { code: "unavailable" } });
    bytes[0] = 2;
    expect(new Splitter().push(bytes)[0]!.end).toBe(true);
  });

  it("refuses a length that nobody sends", () => {
    expect(() => new Splitter().push(Uint8Array.from([0, 255, 255, 255, 255]))).toThrow();
  });
});
