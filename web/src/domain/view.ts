// What a link to the page carries: everything another person must see to see the same. The router hands over
// the raw search parameters; what is unknown or malformed is dropped.
import type { Range } from "./time";
import { ms } from "./time";

export const views = ["graph", "tree"] as const;
export type View = (typeof views)[number];

export const tabs = ["investigate", "signals", "context", "json"] as const;
export type Tab = (typeof tabs)[number];

export interface Selection {
  type: "node" | "edge" | "entry" | "lane";
  id: string;
}

/** Search parameters of the story page. Absent means the default. */
export interface StorySearch {
  sel?: string;
  view?: View;
  tab?: Tab;
  /** Tokens of unfolded groups, separated by commas. */
  open?: string;
  from?: string;
  to?: string;
  /** Kinds of timeline entries shown, when not the default ones. */
  kinds?: string;
}

const member = <T extends string>(all: readonly T[], v: unknown): T | undefined => all.find((x) => x === v);
const text = (v: unknown): string | undefined =>
  typeof v === "string" && v !== "" && v.length <= 2000 ? v : undefined;

export function storySearch(raw: Record<string, unknown>): StorySearch {
  const from = text(raw.from);
  const to = text(raw.to);
  const ranged = from && to && ms(from) <= ms(to);
  const sel = text(raw.sel);
  return clean({
    sel: sel && selection(sel) ? sel : undefined,
    view: member(views, raw.view),
    tab: member(tabs, raw.tab),
    open: text(raw.open),
    from: ranged ? from : undefined,
    to: ranged ? to : undefined,
    kinds: text(raw.kinds),
  });
}

/** clean removes what is undefined, so that defaults leave no trace in the URL. */
export function clean<T extends object>(search: T): T {
  return Object.fromEntries(Object.entries(search).filter(([, v]) => v !== undefined && v !== "")) as T;
}

export function selection(text: string | undefined): Selection | null {
  const m = /^(node|edge|entry|lane):(.+)$/.exec(text ?? "");
  return m ? { type: m[1] as Selection["type"], id: m[2]! } : null;
}

export function selectionText(s: Selection | null): string | undefined {
  return s ? `${s.type}:${s.id}` : undefined;
}

export function openTokens(search: StorySearch): string[] {
  return search.open ? [...new Set(search.open.split(","))].filter((t) => t !== "").slice(0, 50) : [];
}

/** toggled adds a token, or takes it away. */
export function toggled(tokens: string[], token: string): string | undefined {
  const next = tokens.includes(token) ? tokens.filter((t) => t !== token) : [...tokens, token];
  return next.length > 0 ? next.join(",") : undefined;
}

export function range(search: StorySearch): Range | null {
  return search.from && search.to ? { from: ms(search.from), to: ms(search.to) } : null;
}

/** isoTime writes milliseconds as the URL holds them. */
export function isoTime(at: number): string {
  return new Date(Math.round(at)).toISOString();
}
