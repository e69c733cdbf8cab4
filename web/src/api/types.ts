// What the page works with: the API's answers after decoding. Every list is present, every time is the
// RFC 3339 text the server sent (nanoseconds included) or "" when there is none, every closed list has been
// checked. Nothing outside src/api sees undecoded JSON.

/** Mildest first; "none" is the absence of a signal. */
export const severities = ["none", "info", "low", "medium", "high", "critical"] as const;
export type Severity = (typeof severities)[number];

export const nodeKinds = [
  "process",
  "file",
  "endpoint",
  "actor",
  "container",
  "pod",
  "host",
  "service",
  "user",
  "session",
  "kernel",
  "k8s",
  "cloud",
  "vulnerability",
  "misconfiguration",
  "group",
  "ancestors",
  "gap",
] as const;
export type NodeKind = (typeof nodeKinds)[number];

export const edgeKinds = [
  "spawn",
  "write",
  "read",
  "execute_file",
  "network",
  "inject",
  "signal",
  "identity",
  "cloud",
  "context",
] as const;
export type EdgeKind = (typeof edgeKinds)[number];

export const entryKinds = [
  "signal",
  "event",
  "state",
  "audit",
  "finding",
  "triage",
  "note",
  "response",
  "notification",
  "gap",
  "action",
] as const;
export type EntryKind = (typeof entryKinds)[number];

export type LifeState = "alive" | "ended" | "unknown" | "killed" | "isolated" | "";

/** One run of a sentence; `node` or `lane` names what it stands for. */
export interface Span {
  text: string;
  node: string;
  lane: string;
}

export interface ScorePart {
  points: number;
  text: string;
  entryIds: string[];
}

export interface Tactic {
  id: string;
  name: string;
  at: string;
}

export interface Technique {
  id: string;
  name: string;
  tactic: string;
}

export interface RuleRef {
  id: string;
  name: string;
}

export interface Where {
  hosts: string[];
  containers: string[];
  users: string[];
}

export interface Context {
  key: string;
  layer: string;
  entity: string;
  parentKey: string;
  openedBy: string;
  reason: string;
  priority: number;
  signals: number;
}

export interface Link {
  fromContext: string;
  toContext: string;
  type: string;
  weight: number;
  reason: string;
}

export interface Gap {
  laneId: string;
  from: string;
  to: string;
  /** 0 when the number is not known. */
  lost: number;
  reason: string;
  kinds: string[];
  text: string;
}

export interface Lane {
  id: string;
  parentId: string;
  kind: string;
  label: string;
  sublabel: string;
  state: LifeState;
  stateAt: string;
  order: number;
}

/** One fact about a node, under its field path. */
export interface Attribute {
  field: string;
  label: string;
  value: string;
}

/** One program of a process's exec chain. */
export interface Image {
  at: string;
  path: string;
  commandLine: string;
  user: string;
}

export interface Member {
  id: string;
  label: string;
  at: string;
  severity: Severity;
}

export interface GraphNode {
  id: string;
  kind: NodeKind;
  of: string;
  laneId: string;
  treeParentId: string;
  order: number;
  label: string;
  sublabel: string;
  severity: Severity;
  /** On the path from the entry to the worst impact, its ends included. */
  spine: boolean;
  role: string;
  state: LifeState;
  stateAt: string;
  count: number;
  firstSeen: string;
  lastSeen: string;
  flags: string[];
  signals: number;
  did: Record<string, number>;
  children: { total: number; shown: number };
  varies: string[];
  samples: string[];
  path: string[];
  expandToken: string;
  foldReason: string;
  contextKeys: string[];
  why: string[];
  attributes: Attribute[];
  images: Image[];
  members: Member[];
}

export interface GraphEdge {
  id: string;
  kind: EdgeKind;
  source: string;
  target: string;
  tree: boolean;
  spine: boolean;
  severity: Severity;
  count: number;
  ops: Record<string, number>;
  label: string;
  firstSeen: string;
  lastSeen: string;
  refused: boolean;
  reason: string;
  eventIds: string[];
}

export interface Graph {
  lanes: Lane[];
  nodes: GraphNode[];
  edges: GraphEdge[];
  gaps: Gap[];
  entryId: string;
  impactIds: string[];
  totals: { events: number; nodes: number; edges: number };
  hidden: { reason: string; kind: string; nodes: number }[];
}

export interface Entry {
  id: string;
  at: string;
  until: string;
  kind: EntryKind;
  severity: Severity;
  text: Span[];
  count: number;
  rule: RuleRef | null;
  techniques: Technique[];
  context: { key: string; layer: string; entity: string } | null;
  laneId: string;
  nodeIds: string[];
  edgeIds: string[];
  eventIds: string[];
  members: Entry[];
}

export interface Bucket {
  at: string;
  events: number;
  signals: Partial<Record<Severity, number>>;
  lost: number;
  gap: boolean;
}

export interface Timeline {
  items: Entry[];
  bucketMs: number;
  buckets: Bucket[];
}

export interface Signal {
  eventId: string;
  at: string;
  severity: Severity;
  rule: RuleRef;
  type: string;
  text: Span[];
  techniques: Technique[];
  contextKey: string;
  nodeIds: string[];
  suppressed: number;
}

export interface Recommendation {
  id: string;
  label: string;
  why: string;
  targets: string[];
}

export interface Activity {
  at: string;
  by: string;
  kind: string;
  from: string;
  to: string;
  comment: string;
}

/** What a row of the list shows. */
export interface StorySummary {
  id: string;
  version: string;
  asOf: string;
  title: string;
  sentence: Span[];
  score: number;
  severity: Severity;
  scoreParts: ScorePart[];
  state: string;
  verdict: string;
  assignee: string;
  firstSeen: string;
  lastSeen: string;
  /** Something of it still runs. */
  active: boolean;
  /** It comes from a recording, not from this host. */
  recording: boolean;
  events: number;
  signalCount: number;
  processes: number;
  tactics: Tactic[];
  where: Where;
  lost: number;
  spark: number[];
}

export interface Story extends StorySummary {
  contexts: Context[];
  links: Link[];
  gaps: Gap[];
  activity: Activity[];
  redirects: string[];
  signals: Signal[];
  recommended: Recommendation[];
  graph: Graph;
  timeline: Timeline;
  /** The answer as it came, for the JSON tab. */
  raw: unknown;
}

export interface StoryList {
  items: StorySummary[];
  total: number;
  asOf: string;
}

export interface AgentStatus {
  id: string;
  host: string;
  status: string;
  mode: string;
  kernel: string;
  lastSeen: string;
  lost: number;
  reason: string;
  recording: boolean;
  rulesLoaded: number;
  ruleProblems: number;
}

export interface FleetStatus {
  ok: boolean;
  /** Why not ok, in words. */
  reason: string;
  /** What is shown comes from a recording, not from this host. */
  recording: boolean;
  agents: AgentStatus[];
  lost: number;
  events: number;
  version: string;
  asOf: string;
}

export interface EventView {
  id: string;
  at: string;
  kind: string;
  severity: Severity;
  text: Span[];
  fields: Record<string, string>;
}
