// A small server for tests and for work on the page without clew: it serves dist/ and answers the API from
// testdata/. Usage: node test/server.mjs [port]. Under a base path of its own, to show that any path works.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize, sep } from "node:path";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const dist = here("../dist");
const types = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
  ".txt": "text/plain; charset=utf-8",
};

export const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
  "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const json = async (name) => JSON.parse(await readFile(here(`../testdata/${name}`), "utf8"));

/**
 * start serves below `base`. `state` steers the answers: scenario "empty" has no story, "down" fails every
 * call, "locked" wants a login, "grow" shows the first `step` nodes only.
 */
export async function start({ port = 0, base = "/clew/", state = { scenario: "demo", step: 0 } } = {}) {
  const demo = await json("story.json");
  const hostile = await json("story-hostile.json");
  const folds = await json("folds.json");
  const stories = await json("stories.json");
  const none = await json("stories-empty.json");
  const status = await json("status.json");

  const getStory = ({ id, open = [] }) => {
    if (id === hostile.story.id) return hostile;
    if (id !== demo.story.id) return null;
    const answer = structuredClone(demo);
    const g = answer.story.graph;
    for (const token of open) {
      if (!folds.members[token]) continue;
      g.nodes = g.nodes.flatMap((n) => (n.id === token ? folds.members[token] : [n]));
      g.edges = g.edges
        .filter((e) => e.target !== token && e.source !== token)
        .concat(folds.memberEdges[token]);
    }
    if (open.length > 0) answer.story.version += `/${open.join(",")}`;
    if (state.scenario === "grow") {
      const kept = [...g.nodes].sort((a, b) => (a.firstSeen < b.firstSeen ? -1 : 1)).slice(0, state.step);
      const ids = new Set(kept.map((n) => n.id));
      g.nodes = g.nodes.filter((n) => ids.has(n.id));
      g.edges = g.edges.filter((e) => ids.has(e.source) && ids.has(e.target));
      answer.story.version = `grow-${state.step}`;
    }
    return answer;
  };

  const api = {
    "StoryService/ListStories": () => (state.scenario === "empty" ? none : stories),
    "StoryService/GetStory": getStory,
    "FleetService/GetStatus": () => status,
    "EventService/SearchEvents": ({ ids = [] }) => ({
      items: ids.map((id) => ({
        id,
        at: demo.story.firstSeen,
        kind: "exec",
        host: "web-01",
        severity: "high",
        ruleIds: ["shell_below_web_server"],
        contextKey: "",
        fields: {
          "exec.file.path": "/usr/bin/dash",
          "process.pid": 31330,
          "process.ancestors.file.path": ["/usr/local/bin/httpd", "/usr/bin/containerd-shim"],
        },
        text: [],
      })),
      nextCursor: "",
      total: { value: String(ids.length), exact: true },
      asOf: demo.story.asOf,
    }),
  };

  const server = createServer(async (request, response) => {
    const send = (code, type, body, extra = {}) => {
      response.writeHead(code, {
        "Content-Type": type,
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        ...extra,
      });
      response.end(body);
    };
    const answer = (code, value) =>
      send(code, "application/json", JSON.stringify(value), { "X-Request-Id": "7f3a" });
    const path = new URL(request.url, "http://x").pathname;
    if (path === "/") return send(302, "text/plain", "", { Location: base });
    if (!path.startsWith(base)) return send(404, "text/plain", "not found");
    const rest = path.slice(base.length);

    if (
      rest === "clew.v1.StoryService/WatchStories" &&
      state.scenario !== "locked" &&
      state.scenario !== "down"
    ) {
      response.writeHead(200, { "Content-Type": "application/connect+json" });
      const message = Buffer.from(
        JSON.stringify({ items: [{ id: demo.story.id, version: demo.story.version }] }),
      );
      const tell = () => {
        const head = Buffer.alloc(5);
        head.writeUInt32BE(message.length, 1);
        response.write(Buffer.concat([head, message]));
      };
      tell();
      state.changed = tell;
      return;
    }
    if (rest.startsWith("clew.v1.")) {
      let body = "";
      for await (const chunk of request) body += chunk;
      const method = api[rest.slice("clew.v1.".length)];
      if (request.method !== "POST" || request.headers["connect-protocol-version"] !== "1" || !method) {
        return answer(404, { code: "unimplemented", message: `no method ${rest}` });
      }
      if (state.scenario === "locked") return answer(401, { code: "unauthenticated", message: "no session" });
      if (state.scenario === "down")
        return answer(503, { code: "unavailable", message: "the store is being checked" });
      const value = method(JSON.parse(body));
      return value ? answer(200, value) : answer(404, { code: "not_found", message: "no such story" });
    }
    const file = normalize(join(dist, rest === "" ? "index.html" : rest));
    if (file !== dist && !file.startsWith(dist + sep)) return send(404, "text/plain", "not found");
    try {
      send(200, types[extname(file)] ?? "application/octet-stream", await readFile(file));
    } catch {
      send(404, "text/plain", "not found");
    }
  });
  await new Promise((done) => server.listen(port, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${server.address().port}${base}`,
    state,
    close: () =>
      new Promise((done) => {
        server.closeAllConnections();
        server.close(done);
      }),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await start({ port: Number(process.argv[2] ?? 8845), base: "/" });
  console.log(`fixtures at ${url}`);
}
