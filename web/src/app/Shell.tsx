// The frame around every page: top bar, rail, and the banner that says when what is shown is a recording.
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { ApiError } from "../api/client";
import { useFleet, useLive } from "../api/queries";
import type { FleetStatus } from "../api/types";
import { count, plural, visible } from "../domain/text";
import { clock, zoneName } from "../domain/time";
import {
  ChevronRight,
  CircleHelp,
  History,
  KindSymbols,
  Logo,
  Monitor,
  Moon,
  Sun,
  Waypoints,
} from "../ui/icons";
import { Button, Disclosed } from "../ui/kit";
import { usePrefs } from "./prefs";
import css from "./Shell.module.css";
import { useHelp, useShortcuts } from "./shortcuts";
import { LoginNeeded } from "./states";

export function Shell() {
  const fleet = useFleet();
  useLive();
  const { zone, set, theme } = usePrefs();
  const help = useHelp();
  const path = useLocation({ select: (l) => l.pathname });
  const story = /^\/stories\/(.+)$/.exec(path)?.[1];
  const login = fleet.error instanceof ApiError && fleet.error.status === 401;

  useShortcuts("Everywhere", [
    { keys: "?", what: "this list" },
    { keys: "g s", what: "go to the stories", run: () => location.assign("#/stories") },
    {
      keys: "y",
      what: "copy a link to this view",
      run: () => void navigator.clipboard?.writeText(location.href),
    },
  ]);

  const nextTheme = theme === "system" ? "light" : theme === "light" ? "dark" : "system";
  return (
    <div className={css.shell}>
      <KindSymbols />
      <button type="button" className={css.skip} onClick={() => document.getElementById("main")?.focus()}>
        Skip to content
      </button>
      <header className={css.top}>
        <Link to="/stories" className={css.brand} aria-label="clew, to the stories">
          <Logo />
          <span>clew</span>
        </Link>
        <nav aria-label="Breadcrumb" className={css.crumbs}>
          <Link to="/stories">Stories</Link>
          {story !== undefined && (
            <>
              <ChevronRight size={13} aria-hidden="true" />
              <span aria-current="page" className="mono">
                {visible(decodeURIComponent(story))}
              </span>
            </>
          )}
        </nav>
        <div className={css.tools}>
          <Health status={fleet.data} failed={fleet.isError && !login} />
          <Button
            aria-label={`Time zone: ${zoneName(zone)}. Switch to ${zone === "utc" ? "local time" : "UTC"}`}
            onPress={() => set({ zone: zone === "utc" ? "local" : "utc" })}
          >
            {zoneName(zone)}
          </Button>
          <Button
            icon
            aria-label={`Colours: ${theme}. Switch to ${nextTheme}`}
            onPress={() => set({ theme: nextTheme })}
          >
            {theme === "system" ? (
              <Monitor size={16} aria-hidden="true" />
            ) : theme === "light" ? (
              <Sun size={16} aria-hidden="true" />
            ) : (
              <Moon size={16} aria-hidden="true" />
            )}
          </Button>
          <Button icon aria-label="Keyboard shortcuts" onPress={help}>
            <CircleHelp size={16} aria-hidden="true" />
          </Button>
        </div>
      </header>
      <nav className={css.rail} aria-label="Main">
        <Link to="/stories" className={css.railItem} activeProps={{ "data-active": true }}>
          <Waypoints size={19} aria-hidden="true" />
          <span>Stories</span>
        </Link>
      </nav>
      <main id="main" tabIndex={-1} className={css.main}>
        {fleet.data?.recording === true && (
          <div className={css.recording} role="note">
            <History size={15} aria-hidden="true" />
            <b>Recording, not this host.</b>
            <span>{recordingReason(fleet.data)}</span>
          </div>
        )}
        {login ? <LoginNeeded /> : <Outlet />}
      </main>
    </div>
  );
}

function recordingReason(status: FleetStatus): string {
  const reason = status.agents.find((a) => a.reason !== "")?.reason ?? "";
  return reason === ""
    ? "Everything on this page comes from a recording that clew plays."
    : `Everything on this page comes from a recording: ${visible(reason)}.`;
}

/** How the sensors are: live, silent, lossy, unreachable. Sign and word together. */
function Health({ status, failed }: { status: FleetStatus | undefined; failed: boolean }) {
  const { zone } = usePrefs();
  const [since, setSince] = useState("");
  useEffect(() => {
    setSince((before) => (failed ? before || new Date().toISOString() : ""));
  }, [failed]);

  if (failed) {
    return (
      <span className={css.health} data-look="bad" role="status">
        <i /> not live since {clock(since, zone, 0)}, retrying
      </span>
    );
  }
  if (!status) return null;
  const silent = status.agents.filter((a) => a.status !== "ok");
  const [look, word] =
    status.agents.length === 0
      ? (["bad", "no sensor"] as const)
      : status.recording
        ? (["rec", "recording"] as const)
        : silent.length > 0
          ? ([
              "bad",
              silent.length === 1 ? `sensor ${silent[0]!.status}` : `${silent.length} sensors silent`,
            ] as const)
          : status.ok
            ? (["live", "live"] as const)
            : (["warn", "starting"] as const);
  return (
    <span className={css.health} data-look={look}>
      <i />
      <Disclosed
        title="Sensors"
        label={
          <>
            {word}
            {status.lost > 0 && <span className={css.lost}>{count(status.lost)} lost</span>}
          </>
        }
      >
        <div className={css.sensors}>
          <h3>Sensors</h3>
          {!status.ok && status.reason !== "" && <p>{visible(status.reason)}</p>}
          {status.agents.length === 0 && <p>No agent has reported to this server yet.</p>}
          <ul>
            {status.agents.map((a) => (
              <li key={a.id}>
                <b>{visible(a.host)}</b>
                <span>
                  {a.status} · {a.mode} mode{a.kernel !== "" && ` · kernel ${visible(a.kernel)}`}
                </span>
                <span>
                  {plural(a.rulesLoaded, "rule")} loaded
                  {a.ruleProblems > 0 && `, ${plural(a.ruleProblems, "problem")}`} · {count(a.lost)} events
                  lost · last seen {clock(a.lastSeen, zone, 0)}
                </span>
                {a.reason !== "" && <span>{visible(a.reason)}</span>}
              </li>
            ))}
          </ul>
          <p className={css.dim}>
            {plural(status.events, "event")} stored · clew {visible(status.version)}
          </p>
        </div>
      </Disclosed>
    </span>
  );
}
