// Icons of the page: those of lucide, and our own for the kinds of things in a graph.
export {
  ArrowLeft,
  ArrowRight,
  ChevronDown,
  ChevronRight,
  CircleHelp,
  Clock,
  Copy,
  Crosshair,
  FileText,
  History,
  Info,
  Keyboard,
  LogIn,
  Maximize,
  Minus,
  Monitor,
  Moon,
  Plus,
  Radio,
  RefreshCw,
  ShieldCheck,
  Sun,
  TriangleAlert,
  Waypoints,
  X,
} from "lucide-react";

import type { ReactNode } from "react";
import type { LifeState, NodeKind } from "../api/types";

const shapes: Partial<Record<NodeKind, ReactNode>> = {
  process: (
    <>
      <rect x="1.75" y="2.75" width="12.5" height="10.5" rx="2" />
      <path d="m4.5 6 2.2 2-2.2 2M8.4 10.4h3" />
    </>
  ),
  file: (
    <>
      <path d="M9.2 1.75H4.6c-.9 0-1.6.7-1.6 1.6v9.3c0 .9.7 1.6 1.6 1.6h6.8c.9 0 1.6-.7 1.6-1.6V5.6Z" />
      <path d="M9 2v3.8h3.8M5.6 8.6h4.8M5.6 11.2h3.4" />
    </>
  ),
  endpoint: (
    <>
      <circle cx="8" cy="8" r="6.25" />
      <path d="M1.75 8h12.5M8 1.75c2 1.7 2.8 3.8 2.8 6.25S10 12.55 8 14.25C6 12.550 5.200 10.450 5.200 8S6 3.450 8 1.750Z" />
    </>
  ),
  actor: (
    <>
      <circle cx="8" cy="8" r="6.25" />
      <circle cx="8" cy="8" r="3" />
      <circle cx="8" cy="8" r=".6" fill="currentColor" />
    </>
  ),
  container: (
    <>
      <path d="M8 1.600 13.800 4.700v6.600L8 14.400 2.200 11.300V4.700Z" />
      <path d="M2.400 4.800 8 7.800l5.600-3M8 7.800v6.400" />
    </>
  ),
  host: (
    <>
      <rect x="1.750" y="2.250" width="12.500" height="4.800" rx="1.200" />
      <rect x="1.750" y="8.950" width="12.500" height="4.800" rx="1.200" />
      <path d="M4.200 4.650h.1M4.200 11.350h.1M7.200 4.650h4.500M7.200 11.350h4.500" />
    </>
  ),
  user: (
    <>
      <circle cx="8" cy="5" r="2.900" />
      <path d="M2.600 14c.4-3 2.500-4.700 5.400-4.700s5 1.700 5.400 4.700" />
    </>
  ),
  kernel: <path d="M8 1.600 13.600 4.800v6.400L8 14.400 2.400 11.200V4.800Z" />,
  cloud: <path d="M4.600 12.600a3 3 0 0 1-.3-6 4 4 0 0 1 7.600-.7 3.400 3.400 0 0 1-.4 6.700Z" />,
  group: (
    <>
      <rect x="1.750" y="5.250" width="9" height="9" rx="1.600" />
      <path d="M4.400 3.400c.2-.9.8-1.400 1.600-1.400h6.200c1.200 0 2 .8 2 2v6.200c0 .8-.5 1.400-1.400 1.600" />
    </>
  ),
  ancestors: <path d="M3 8h.1M8 8h.1M13 8h.1" strokeWidth="2.400" />,
  gap: <path d="M2 13 13 2M2 8l6-6M8 14l6-6" />,
  vulnerability: (
    <path d="M8 1.600 13.400 3.600v4c0 3.300-2.100 5.700-5.400 6.800-3.300-1.100-5.400-3.500-5.400-6.800v-4Z" />
  ),
};
const same: Partial<Record<NodeKind, NodeKind>> = {
  pod: "container",
  k8s: "kernel",
  service: "host",
  session: "user",
  misconfiguration: "vulnerability",
};

/** The icons drawn once: a graph refers to them hundreds of times. */
export function KindSymbols() {
  return (
    <svg width="0" height="0" style={{ position: "absolute" }} aria-hidden="true">
      {Object.entries(shapes).map(([kind, shape]) => (
        <symbol
          key={kind}
          id={`kind-${kind}`}
          viewBox="0 0 16 16"
          fill="none"
          stroke="currentColor"
          strokeWidth="1.35"
          strokeLinecap="round"
          strokeLinejoin="round"
        >
          {shape}
        </symbol>
      ))}
    </svg>
  );
}

export function KindIcon({ kind, size = 16 }: { kind: NodeKind; size?: number }) {
  const known = kind in shapes ? kind : (same[kind] ?? "process");
  return (
    <svg width={size} height={size} aria-hidden="true">
      <use href={`#kind-${known}`} />
    </svg>
  );
}

export const kindWord: Record<NodeKind, string> = {
  process: "process",
  file: "file",
  endpoint: "endpoint",
  actor: "actor",
  container: "container",
  pod: "pod",
  host: "host",
  service: "service",
  user: "user",
  session: "session",
  kernel: "kernel object",
  k8s: "Kubernetes object",
  cloud: "cloud resource",
  vulnerability: "vulnerability",
  misconfiguration: "misconfiguration",
  group: "folded group",
  ancestors: "folded ancestors",
  gap: "gap",
};

/** The state of a thing as a small sign: full, half, empty, crossed. */
export function StateIcon({ state, size = 10 }: { state: LifeState; size?: number }) {
  if (state === "") return null;
  return (
    <svg width={size} height={size} viewBox="0 0 10 10" data-state={state} aria-hidden="true">
      {state === "alive" && <circle cx="5" cy="5" r="4" fill="var(--alive)" />}
      {state === "ended" && (
        <>
          <circle cx="5" cy="5" r="3.700" fill="none" stroke="currentColor" strokeWidth="1.200" />
          <path d="M5 1.300a3.700 3.700 0 0 0 0 7.400Z" fill="currentColor" />
        </>
      )}
      {state === "unknown" && (
        <circle
          cx="5"
          cy="5"
          r="3.700"
          fill="none"
          stroke="currentColor"
          strokeWidth="1.200"
          strokeDasharray="2 1.500"
        />
      )}
      {state === "killed" && (
        <path d="m1.800 1.800 6.400 6.400m0-6.400L1.800 8.200" stroke="currentColor" strokeWidth="1.600" />
      )}
      {state === "isolated" && (
        <>
          <circle cx="5" cy="5" r="3.700" fill="none" stroke="currentColor" strokeWidth="1.200" />
          <path d="m2.500 7.500 5-5" stroke="currentColor" strokeWidth="1.200" />
        </>
      )}
    </svg>
  );
}

/** stateText is the state of a thing in words that fit its kind; an address has none worth telling. */
export function stateText(kind: NodeKind, state: LifeState): string {
  if (kind === "endpoint" || kind === "actor") return "";
  if (kind === "file" && state === "alive") return "exists";
  if (kind === "file" && state === "ended") return "removed";
  return stateWord[state];
}

export const stateWord: Record<LifeState, string> = {
  alive: "running",
  ended: "ended",
  unknown: "unknown since",
  killed: "killed by response",
  isolated: "isolated",
  "": "",
};

/** The mark of the product: a ball of thread with its loose end. */
export function Logo({ size = 22 }: { size?: number }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 32 32"
      fill="none"
      strokeLinecap="round"
      strokeWidth="2.200"
      aria-hidden="true"
    >
      <circle cx="14" cy="15" r="11" fill="var(--accent)" />
      <g stroke="var(--chrome)">
        <path d="M5.200 11.500c5-4 12-3.500 17.400 1.200" />
        <path d="M3.700 16.500c6-4.500 13.500-3.500 20 2.200" />
        <path d="M6.500 21.700c5-3 10-2.200 14.500 2.200" />
      </g>
      <path d="M22.500 22c1.800 4 4.500 5.200 8 4" stroke="var(--accent)" />
    </svg>
  );
}
