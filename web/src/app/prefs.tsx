// What a person prefers: kept in this browser, and nothing of the data among it.
import { createContext, type ReactNode, use, useCallback, useEffect, useMemo, useState } from "react";
import type { Zone } from "../domain/time";

export type Theme = "system" | "light" | "dark";

interface Prefs {
  theme: Theme;
  zone: Zone;
  shortcuts: boolean;
  /** Sizes of the story page's parts in pixels. */
  panelWidth: number;
  timelineHeight: number;
}

const defaults: Prefs = {
  theme: "system",
  zone: "utc",
  shortcuts: true,
  panelWidth: 380,
  timelineHeight: 232,
};
const key = "clew.prefs";

function load(): Prefs {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(key) ?? "{}");
    const p = (typeof stored === "object" && stored !== null ? stored : {}) as Partial<Prefs>;
    const size = (v: unknown, fallback: number) =>
      typeof v === "number" && Number.isFinite(v) ? v : fallback;
    return {
      theme: p.theme === "light" || p.theme === "dark" ? p.theme : "system",
      zone: p.zone === "local" ? "local" : "utc",
      shortcuts: p.shortcuts !== false,
      panelWidth: size(p.panelWidth, defaults.panelWidth),
      timelineHeight: size(p.timelineHeight, defaults.timelineHeight),
    };
  } catch {
    return defaults;
  }
}

interface PrefsAccess extends Prefs {
  dark: boolean;
  set: (change: Partial<Prefs>) => void;
}

const Context = createContext<PrefsAccess | null>(null);

export function usePrefs(): PrefsAccess {
  const access = use(Context);
  if (!access) throw new Error("usePrefs outside of PrefsProvider");
  return access;
}

export function PrefsProvider({ children }: { children: ReactNode }) {
  const [prefs, setPrefs] = useState(load);
  const [systemDark, setSystemDark] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);

  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => setSystemDark(query.matches);
    query.addEventListener("change", follow);
    return () => query.removeEventListener("change", follow);
  }, []);

  const dark = prefs.theme === "dark" || (prefs.theme === "system" && systemDark);
  useEffect(() => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  }, [dark]);

  const set = useCallback((change: Partial<Prefs>) => {
    setPrefs((before) => {
      const after = { ...before, ...change };
      try {
        localStorage.setItem(key, JSON.stringify(after));
      } catch {
        // A browser that keeps nothing still shows the change.
      }
      return after;
    });
  }, []);

  const access = useMemo(() => ({ ...prefs, dark, set }), [prefs, dark, set]);
  return <Context value={access}>{children}</Context>;
}
