// From the JSON of clew.v1 to the types the page works with. The server is trusted to speak the API, but an
// older page may meet a newer server: unknown members are ignored, unknown words of a closed list fall back
// to the mildest, missing ones get their zero value. Nothing here throws.
import type * as rpc from "../gen/clew/v1/services_pb";
import type * as pb from "../gen/clew/v1/story_pb";
import type {
  Activity,
  Attribute,
  Bucket,
  Context,
  EdgeKind,
  Entry,
  EntryKind,
  EventView,
  FleetStatus,
  Gap,
  Graph,
  GraphEdge,
  GraphNode,
  Image,
  Lane,
  LifeState,
  Link,
  Member,
  NodeKind,
  Recommendation,
  ScorePart,
  Severity,
  Signal,
  Span,
  Story,
  StoryList,
  StorySummary,
  Tactic,
  Technique,
  Timeline,
} from "./types";
import { edgeKinds, entryKinds, nodeKinds, severities } from "./types";

function object<T extends object>(v: T | null | undefined): Partial<T> {
  return typeof v === "object" && v !== null && !Array.isArray(v) ? v : {};
}

function list<J, T>(v: J[] | null | undefined, one: (item: J) => T): T[] {
  return Array.isArray(v) ? v.filter((item) => typeof item === "object" && item !== null).map(one) : [];
}

function str(v: unknown): string {
  if (typeof v === "string") return v;
  return typeof v === "number" || typeof v === "boolean" ? String(v) : "";
}

/** num reads numbers and the decimal strings that protobuf JSON uses for 64-bit integers. */
function num(v: unknown): number {
  const n = typeof v === "string" && v !== "" ? Number(v) : v;
  return typeof n === "number" && Number.isFinite(n) ? n : 0;
}

function strings(v: unknown): string[] {
  return Array.isArray(v) ? v.map(str).filter((s) => s !== "") : [];
}

function numbers(v: object | null | undefined): Record<string, number> {
  return Object.fromEntries(Object.entries(object(v)).map(([key, value]) => [key, num(value)]));
}

function closed<T extends string>(all: readonly T[], v: unknown, fallback: T): T {
  return all.find((x) => x === v) ?? fallback;
}

/** An absent severity is the absence of a signal, an unknown one counts as the mildest. */
const severity = (v: unknown): Severity => (str(v) === "" ? "none" : closed(severities, v, "info"));
const life = (v: unknown): LifeState =>
  closed<LifeState>(["alive", "ended", "unknown", "killed", "isolated"], v, "");

const spans = (v: pb.SpanJson[] | null | undefined): Span[] =>
  list(v, (s) => ({ text: str(s.t), node: str(s.node), lane: str(s.lane) }));

const part = (v: pb.ScorePartJson): ScorePart => ({
  points: num(v.points),
  text: str(v.text),
  entryIds: strings(v.entryIds),
});
const tactic = (v: pb.TacticJson): Tactic => ({ id: str(v.id), name: str(v.name), at: str(v.at) });
const technique = (v: pb.TechniqueJson): Technique => ({
  id: str(v.id),
  name: str(v.name),
  tactic: str(v.tactic),
});

const context = (v: pb.StoryContextJson): Context => ({
  key: str(v.key),
  layer: str(v.layer),
  entity: str(v.entity),
  parentKey: str(v.parentKey),
  openedBy: str(v.openedBy),
  reason: str(v.reason),
  priority: num(v.priority),
  signals: num(v.signals),
});

const link = (v: pb.StoryLinkJson): Link => ({
  fromContext: str(v.fromContext),
  toContext: str(v.toContext),
  type: str(v.type),
  weight: num(v.weight),
  reason: str(v.reason),
});

const gap = (v: pb.GapJson): Gap => ({
  laneId: str(v.laneId),
  from: str(v.from),
  to: str(v.to),
  lost: num(v.lost),
  reason: str(v.reason),
  kinds: strings(v.kinds),
  text: str(v.text),
});

const activity = (v: pb.ActivityJson): Activity => ({
  at: str(v.at),
  by: str(v.by),
  kind: str(v.kind),
  from: str(v.from),
  to: str(v.to),
  comment: str(v.comment),
});

const lane = (v: pb.LaneJson): Lane => ({
  id: str(v.id),
  parentId: str(v.parentId),
  kind: str(v.kind),
  label: str(v.label),
  sublabel: str(v.sublabel),
  state: life(v.state),
  stateAt: str(v.stateAt),
  order: num(v.order),
});

const attribute = (v: pb.AttributeJson): Attribute => ({
  field: str(v.field),
  label: str(v.label) || str(v.field),
  value: str(v.value),
});
const image = (v: pb.ImageJson): Image => ({
  at: str(v.at),
  path: str(v.path),
  commandLine: str(v.commandLine),
  user: str(v.user),
});
const member = (v: pb.MemberJson): Member => ({
  id: str(v.id),
  label: str(v.label),
  at: str(v.at),
  severity: severity(v.severity),
});

function node(v: pb.NodeJson): GraphNode {
  const children = object(v.children);
  const role = str(v.role);
  return {
    id: str(v.id),
    kind: closed<NodeKind>(nodeKinds, v.kind, "process"),
    of: str(v.of),
    laneId: str(v.laneId),
    treeParentId: str(v.treeParentId),
    order: num(v.order),
    label: str(v.label) || str(v.id),
    sublabel: str(v.sublabel),
    severity: severity(v.severity),
    spine: role === "spine" || role === "entry" || role === "impact",
    role,
    state: life(v.state),
    stateAt: str(v.stateAt),
    count: Math.max(1, num(v.count)),
    firstSeen: str(v.firstSeen),
    lastSeen: str(v.lastSeen),
    flags: strings(v.flags),
    signals: num(object(v.signals).count),
    did: numbers(v.did),
    children: { total: num(children.total), shown: num(children.shown) },
    varies: strings(v.varies),
    samples: strings(v.samples),
    path: strings(v.path),
    expandToken: str(v.expandToken),
    foldReason: str(v.foldReason),
    contextKeys: strings(v.contextKeys),
    why: strings(v.why),
    attributes: list(v.attributes, attribute),
    images: list(v.images, image),
    members: list(v.members, member),
  };
}

function edge(v: pb.EdgeJson): GraphEdge {
  return {
    id: str(v.id),
    kind: closed<EdgeKind>(edgeKinds, v.kind, "spawn"),
    source: str(v.source),
    target: str(v.target),
    tree: v.tree === true,
    spine: str(v.role) === "spine",
    severity: severity(v.severity),
    count: Math.max(1, num(v.count)),
    ops: numbers(v.ops),
    label: str(v.label),
    firstSeen: str(v.firstSeen),
    lastSeen: str(v.lastSeen),
    refused: v.refused === true,
    reason: str(object(v.link).reason),
    eventIds: strings(v.eventIds),
  };
}

function graph(v: pb.GraphJson | null | undefined): Graph {
  const g = object(v);
  const totals = object(g.totals);
  return {
    lanes: list(g.lanes, lane),
    nodes: list(g.nodes, node).filter((n) => n.id !== ""),
    edges: list(g.edges, edge),
    gaps: list(g.gaps, gap),
    entryId: str(g.entryId),
    impactIds: strings(g.impactIds),
    totals: { events: num(totals.events), nodes: num(totals.nodes), edges: num(totals.edges) },
    hidden: list(g.hidden, (h) => ({ reason: str(h.reason), kind: str(h.kind), nodes: num(h.nodes) })),
  };
}

function entry(v: pb.EntryJson): Entry {
  const c = object(v.context);
  const r = object(v.rule);
  return {
    id: str(v.id),
    at: str(v.at),
    until: str(v.until),
    kind: closed<EntryKind>(entryKinds, v.kind, "event"),
    severity: severity(v.severity),
    text: spans(v.text),
    count: Math.max(1, num(v.count)),
    rule: str(r.id) === "" ? null : { id: str(r.id), name: str(r.name) || str(r.id) },
    techniques: list(v.techniques, technique),
    context: str(c.key) === "" ? null : { key: str(c.key), layer: str(c.layer), entity: str(c.entity) },
    laneId: str(v.laneId),
    nodeIds: strings(v.nodeIds),
    edgeIds: strings(v.edgeIds),
    eventIds: strings(v.eventIds),
    members: list(v.members, entry),
  };
}

function bucket(v: pb.BucketJson): Bucket {
  const signals: Bucket["signals"] = {};
  for (const [key, count] of Object.entries(numbers(v.signals))) signals[severity(key)] = count;
  const lost = num(v.lost);
  return { at: str(v.at), events: num(v.events), signals, lost, gap: v.gap === true || lost > 0 };
}

function timeline(v: pb.TimelineJson | null | undefined): Timeline {
  const t = object(v);
  const h = object(t.histogram);
  return { items: list(t.items, entry), bucketMs: num(h.bucketMs), buckets: list(h.buckets, bucket) };
}

const signal = (v: pb.StorySignalJson): Signal => ({
  eventId: str(v.eventId),
  at: str(v.at),
  severity: severity(v.severity),
  rule: { id: str(v.ruleId), name: str(v.title) || str(v.ruleId) },
  type: str(v.type),
  text: spans(v.text),
  techniques: list(v.techniques, technique),
  contextKey: str(v.contextKey),
  nodeIds: strings(v.nodeIds),
  suppressed: num(v.suppressed),
});

const recommendation = (v: pb.RecommendedActionJson): Recommendation => ({
  id: str(v.id),
  label: str(v.label),
  why: str(v.why),
  targets: strings(v.targets),
});

function summary(s: Partial<pb.StoryJson>): StorySummary {
  const counts = object(s.counts);
  const where = object(s.where);
  return {
    id: str(s.id),
    version: str(s.version),
    asOf: str(s.asOf),
    title: str(s.title),
    sentence: spans(s.sentence),
    score: num(s.score),
    severity: severity(s.severity),
    scoreParts: list(s.scoreParts, part),
    state: str(s.state) || "open",
    verdict: str(s.verdict),
    assignee: str(s.assignee),
    firstSeen: str(s.firstSeen),
    lastSeen: str(s.lastSeen),
    active: s.active === true,
    recording: s.recording === true,
    events: num(counts.events),
    signalCount: num(counts.signals) || (Array.isArray(s.signals) ? s.signals.length : 0),
    processes: num(counts.processes),
    tactics: list(s.tactics, tactic),
    where: {
      hosts: strings(where.hosts),
      containers: strings(where.containers),
      users: strings(where.users),
    },
    lost: num(counts.lost),
    spark: Array.isArray(s.spark) ? s.spark.map(num) : [],
  };
}

export function story(answer: unknown): Story {
  const s = object(object(answer as pb.GetStoryResponseJson).story);
  return {
    ...summary(s),
    contexts: list(s.contexts, context),
    links: list(s.links, link),
    gaps: list(s.gaps, gap),
    activity: list(s.activity, activity),
    redirects: strings(s.redirects),
    signals: list(s.signals, signal),
    recommended: list(s.recommended, recommendation),
    graph: graph(s.graph),
    timeline: timeline(s.timeline),
    raw: answer,
  };
}

export function storyList(answer: unknown): StoryList {
  const a = object(answer as pb.ListStoriesResponseJson);
  const items = list(a.items, summary);
  return { items, total: Math.max(num(object(a.total).value), items.length), asOf: str(a.asOf) };
}

export function fleet(answer: unknown): FleetStatus {
  const a = object(answer as rpc.GetStatusResponseJson);
  const agents = list(a.agents, (x) => ({
    id: str(x.id),
    host: str(x.host),
    status: str(x.status),
    mode: str(x.mode),
    kernel: str(x.kernel),
    lastSeen: str(x.lastSeen),
    lost: num(x.lost),
    reason: str(x.reason),
    recording: x.recording === true,
    rulesLoaded: num(x.rulesLoaded),
    ruleProblems: Array.isArray(x.ruleProblems) ? x.ruleProblems.length : 0,
  }));
  return {
    ok: a.ok === true,
    reason: str(a.reason),
    recording: a.recording === true,
    agents,
    lost: agents.reduce((sum, x) => sum + x.lost, 0),
    events: num(object(a.server).events),
    version: str(a.version),
    asOf: str(a.asOf),
  };
}

/** A value of an event's field as text; lists keep their brackets, so that one item with a blank stays one. */
function value(v: unknown): string {
  return typeof v === "object" && v !== null ? JSON.stringify(v) : str(v);
}

export function events(answer: unknown): EventView[] {
  return list(object(answer as rpc.SearchEventsResponseJson).items, (v) => ({
    id: str(v.id),
    at: str(v.at),
    kind: str(v.kind),
    severity: severity(v.severity),
    text: spans(v.text),
    fields: Object.fromEntries(Object.entries(object(v.fields)).map(([key, x]) => [key, value(x)])),
  }));
}
