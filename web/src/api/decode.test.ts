import fc from "fast-check";
import { describe, expect, it } from "vitest";
import status from "../../testdata/status.json";
import stories from "../../testdata/stories.json";
import demo from "../../testdata/story.json";
import { events, fleet, story, storyList } from "./decode";

describe("decoding", () => {
  it("reads a story whole", () => {
    const s = story(demo);
    expect(s.id).toBe("st_9k2m41qvd7a0");
    expect(s.graph.nodes).toHaveLength(26);
    expect(s.graph.nodes.find((n) => n.id === "f_cron")).toMatchObject({
      severity: "critical",
      spine: true,
      kind: "file",
    });
    expect(s.graph.nodes.find((n) => n.id === "p_crond")!.severity).toBe("none");
    expect(s.scoreParts.reduce((sum, p) => sum + p.points, 0)).toBe(s.score);
    expect(s.timeline.items).toHaveLength(26);
    expect(s.timeline.buckets.filter((b) => b.gap)).toHaveLength(1);
    expect(s.lost).toBe(214);
    expect(s.signals).toHaveLength(14);
  });

  it("reads lists, state of the fleet and events", () => {
    const list = storyList(stories);
    expect(list.items).toHaveLength(6);
    expect(list.total).toBe(6);
    expect(fleet(status)).toMatchObject({ recording: true, ok: true, lost: 214 });
    expect(
      events({ items: [{ id: "ev_1", fields: { "process.pid": 4, "process.argv": ["a b", "c"] } }] })[0]!
        .fields,
    ).toEqual({
      "process.pid": "4",
      "process.argv": '["a b","c"]',
    });
  });

  it("falls back where a newer server says more", () => {
    const s = story({
      story: {
        id: "st_1",
        severity: "apocalyptic",
        graph: { nodes: [{ id: "n", kind: "hologram", state: "asleep" }] },
      },
    });
    expect(s.severity).toBe("info");
    expect(s.graph.nodes[0]).toMatchObject({ kind: "process", state: "", severity: "none" });
  });

  it("never throws, whatever comes", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (v) => {
        story(v);
        story({ story: v });
        story({ story: { graph: v, timeline: v, signals: v, sentence: v, counts: v } });
        story({
          story: { graph: { nodes: v, edges: [v], lanes: [v] }, timeline: { items: [v], histogram: v } },
        });
        storyList(v);
        fleet(v);
        events({ items: v });
      }),
    );
  });
});
