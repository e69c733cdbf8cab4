// Keyboard shortcuts. A page registers what it offers; the registry runs them and the help window lists them.
// Single letters work only while the focus is not in a field, and can be switched off.
import { createContext, type ReactNode, use, useEffect, useMemo, useRef, useState } from "react";
import { Button, Window } from "../ui/kit";
import { usePrefs } from "./prefs";
import css from "./shortcuts.module.css";

export interface Shortcut {
  /** As in KeyboardEvent.key; two keys in a row are written with a blank: "g s". */
  keys: string;
  what: string;
  /** Absent for keys that a part of the page handles itself and that are listed only. */
  run?: () => void;
}

interface Registry {
  add: (group: string, list: () => Shortcut[]) => () => void;
  openHelp: () => void;
}

const Context = createContext<Registry | null>(null);

/** useShortcuts offers shortcuts while the component is mounted. */
export function useShortcuts(group: string, list: Shortcut[]): void {
  const registry = use(Context);
  const latest = useRef(list);
  latest.current = list;
  useEffect(() => registry?.add(group, () => latest.current), [registry, group]);
}

export function useHelp(): () => void {
  return use(Context)?.openHelp ?? (() => {});
}

function typing(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement && (target.isContentEditable || target.matches("input, textarea, select"))
  );
}

export function ShortcutsProvider({ children }: { children: ReactNode }) {
  const { shortcuts: enabled, set } = usePrefs();
  const [help, setHelp] = useState(false);
  const groups = useRef(new Map<string, () => Shortcut[]>());

  const registry = useMemo<Registry>(
    () => ({
      add: (group, list) => {
        groups.current.set(group, list);
        return () => {
          if (groups.current.get(group) === list) groups.current.delete(group);
        };
      },
      openHelp: () => setHelp(true),
    }),
    [],
  );

  useEffect(() => {
    let prefix = "";
    let prefixAt = 0;
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || typing(event.target))
        return;
      if (document.querySelector('[role="dialog"]') !== null && event.key !== "?") return;
      if (!enabled && event.key.length === 1) return;
      if (event.key === "?") {
        event.preventDefault();
        setHelp((open) => !open);
        return;
      }
      const now = event.timeStamp;
      const sequence = prefix !== "" && now - prefixAt < 1500 ? `${prefix} ${event.key}` : event.key;
      prefix = "";
      for (const list of [...groups.current.values()].reverse()) {
        for (const s of list()) {
          if (s.keys === sequence && s.run) {
            event.preventDefault();
            s.run();
            return;
          }
          if (s.keys.startsWith(`${event.key} `) && s.run) {
            prefix = event.key;
            prefixAt = now;
          }
        }
      }
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [enabled]);

  return (
    <Context value={registry}>
      {children}
      <Window title="Keyboard" isOpen={help} onOpenChange={setHelp}>
        <div className={css.columns}>
          {[...groups.current].map(([group, list]) => (
            <section key={group}>
              <h3>{group}</h3>
              <dl>
                {list().map((s) => (
                  <div key={s.keys + s.what}>
                    <dt>
                      {s.keys.split(" ").map((k) => (
                        <kbd key={k}>{shown[k] ?? k}</kbd>
                      ))}
                    </dt>
                    <dd>{s.what}</dd>
                  </div>
                ))}
              </dl>
            </section>
          ))}
        </div>
        <footer className={css.foot}>
          <span>
            Single-letter shortcuts are {enabled ? "on" : "off"}. <a href="./licenses.txt">Licences</a>
          </span>
          <Button look="line" onPress={() => set({ shortcuts: !enabled })}>
            Switch {enabled ? "off" : "on"}
          </Button>
        </footer>
      </Window>
    </Context>
  );
}

const shown: Record<string, string> = {
  ArrowRight: "→",
  ArrowLeft: "←",
  ArrowUp: "↑",
  ArrowDown: "↓",
  Escape: "Esc",
  Enter: "↵",
};
