// The page in a real browser. Without arguments it runs against test/server.mjs and testdata/; with --url and
// --login it runs against a server: `node test/browser.mjs --url http://127.0.0.1:8844/ --login LINK`.
//
//   --shots DIR    writes screenshots at 1440×900, light and dark
//   --story ID     the story to look at; the highest one when absent
//   --chromium P   the browser, $CHROMIUM or the first one on the PATH when absent
//
// It prints one line per check and ends with status 1 when one failed.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { start } from "./server.mjs";

const { values: args } = parseArgs({
  options: {
    url: { type: "string" },
    login: { type: "string" },
    story: { type: "string" },
    shots: { type: "string" },
    chromium: { type: "string", default: process.env.CHROMIUM ?? installed() },
  },
});

/** The first browser of the family that is installed. */
function installed() {
  const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
  const places = (process.env.PATH ?? "").split(delimiter);
  const all = names.flatMap((n) => places.map((p) => join(p, n)));
  return all.find((p) => existsSync(p)) ?? "/usr/bin/chromium";
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const fixtures = args.url === undefined ? await start() : null;
const base = fixtures?.url ?? args.url;
const origin = new URL(base).origin;
const profile = mkdtempSync(join(tmpdir(), "clew-browser-"));
const deadline = 15_000;

let failures = 0;
function check(name, ok, detail = "") {
  console.log(`${ok ? "ok  " : "FAIL"} ${name}${ok || detail === "" ? "" : `: ${detail}`}`);
  if (!ok) failures++;
}

const browser = await chromium.launchPersistentContext(profile, {
  executablePath: args.chromium,
  headless: true,
  viewport: { width: 1440, height: 900 },
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
browser.setDefaultTimeout(deadline);

const foreign = new Set();
const complaints = [];
function watch(page) {
  page.on("request", (r) => {
    const url = new URL(r.url());
    if (url.protocol.startsWith("http") && url.origin !== origin) foreign.add(r.url());
  });
  page.on("pageerror", (e) => complaints.push(`error: ${e.message}`));
  page.on("dialog", (d) => {
    complaints.push(`dialog: ${d.message()}`);
    void d.dismiss();
  });
  page.on("console", (m) => {
    // A failed call is logged by the browser itself; the checks that provoke one look for its message instead.
    if (m.type() === "error" && !m.text().startsWith("Failed to load resource"))
      complaints.push(`console: ${m.text()}`);
  });
}

async function newPage() {
  const page = await browser.newPage();
  watch(page);
  return page;
}

async function violations(page, name) {
  // Through the debugging protocol, so that the content security policy stays as it is.
  await page.evaluate(axe);
  // Colours that have just changed may still be on their way. What is wrong for good is wrong at the deadline, too.
  const until = Date.now() + 5_000;
  let found;
  do {
    found = await page.evaluate(async () => {
      const frame = () => new Promise((done) => requestAnimationFrame(done));
      await frame();
      await frame();
      const result = await window.axe.run(document, { resultTypes: ["violations"] });
      return result.violations.map((v) => `${v.id} (${v.nodes.length}): ${v.nodes[0]?.html.slice(0, 160)}`);
    });
  } while (found.length > 0 && Date.now() < until);
  check(`axe: ${name}`, found.length === 0, `\n       ${found.join("\n       ")}`);
}

const text = (locator) => locator.textContent();
const focusedName = (page) =>
  page.evaluate(() => document.activeElement?.textContent?.trim().slice(0, 60) ?? "");

try {
  const page = await newPage();
  await page.emulateMedia({ colorScheme: "light" });
  if (args.login !== undefined) {
    await page.goto(args.login);
    await page.waitForLoadState();
  }

  // The list.
  await page.goto(`${base}#/stories`);
  const rows = page.getByTestId("story");
  await rows.first().waitFor();
  const scores = (await page.locator('[data-testid="story"] td:first-child b').allInnerTexts()).map(Number);
  check(
    "list: highest score first",
    scores.every((s, i) => i === 0 || s <= scores[i - 1]),
    scores.join(" "),
  );
  check(
    "list: severity as shape and word",
    (await rows.first().locator("td").first().locator("svg").count()) === 1 &&
      /Critical|High|Medium|Low|Info/.test(await text(rows.first())),
  );
  await violations(page, "list, light");
  await page.emulateMedia({ colorScheme: "dark" });
  await violations(page, "list, dark");
  await page.emulateMedia({ colorScheme: "light" });

  const recording = await page.getByText("Recording, not this host.").count();
  const status = await page.evaluate(async () => {
    const r = await fetch("clew.v1.FleetService/GetStatus", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Connect-Protocol-Version": "1" },
      body: "{}",
    });
    return r.json();
  });
  check("banner: shown exactly when a recording is played", recording === (status.recording ? 1 : 0));

  // Keyboard in the list.
  await page.keyboard.press("j");
  check(
    "list: j focuses a row",
    await page.evaluate(() => document.activeElement?.matches('[data-testid="story"]') ?? false),
  );
  if (scores.length > 1) {
    await page.keyboard.press("j");
    await page.keyboard.press("k");
  }
  if (args.story !== undefined) await page.goto(`${base}#/stories/${args.story}`);
  else await page.keyboard.press("Enter");
  const tree = page.getByRole("tree");
  await tree.waitFor();
  const story = decodeURIComponent(new URL(page.url()).hash.replace(/^#\/stories\//, "").split("?")[0]);
  check("list: Enter opens the story", story !== "");

  // The story.
  const answer = await page.evaluate(async (id) => {
    const r = await fetch("clew.v1.StoryService/GetStory", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Connect-Protocol-Version": "1" },
      body: JSON.stringify({ id }),
    });
    return (await r.json()).story;
  }, story);
  const items = page.getByRole("treeitem");
  const cards = await items.count();
  check("story: title", (await text(page.getByRole("heading", { level: 1 }))).length > 0);
  check(
    "story: as many cards as nodes",
    cards === answer.graph.nodes.length,
    `${cards} of ${answer.graph.nodes.length}`,
  );
  check("story: no more than the budget", cards <= 150, String(cards));
  const boxes = await items.evaluateAll((all) =>
    all.map((e) => ({
      id: e.dataset.node,
      x: Number(e.dataset.x),
      y: Number(e.dataset.y),
      w: e.offsetWidth,
      h: e.offsetHeight,
    })),
  );
  const overlaps = boxes.flatMap((a, i) =>
    boxes
      .slice(i + 1)
      .filter((b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h)
      .map((b) => `${a.id}/${b.id}`),
  );
  check("graph: no two cards overlap", overlaps.length === 0, overlaps.join(" "));
  check("graph: one tab stop", (await page.locator('[role="tree"] [tabindex="0"]').count()) === 1);
  check(
    "graph: lines with titles",
    (await page.locator("[data-edge] > title").count()) === (await page.locator("[data-edge]").count()),
  );
  await violations(page, "story, light");

  const sum = (answer.scoreParts ?? []).reduce((n, p) => n + (p.points ?? 0), 0);
  if (sum !== 0) {
    await page.getByRole("button", { name: `Why ${answer.score}?` }).click();
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    check(
      "score: every part is told",
      (await dialog.getByRole("listitem").count()) === answer.scoreParts.length,
    );
    await violations(page, "why this score");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  }

  // Keyboard in the graph: walk to the end of the main path, and look at the evidence.
  await page.keyboard.press("w");
  check(
    "keyboard: w focuses the graph",
    await page.evaluate(() => document.activeElement?.getAttribute("role") === "treeitem"),
  );
  await page.keyboard.press("Home");
  const walked = [await focusedName(page)];
  for (let i = 0; i < 4; i++) {
    const id = await page.evaluate(() => document.activeElement?.dataset.node ?? "");
    const folded = await page.evaluate(
      () => document.activeElement?.getAttribute("aria-expanded") === "false",
    );
    if (folded) break;
    await page.keyboard.press("ArrowRight");
    const now = await page.evaluate(() => document.activeElement?.dataset.node ?? "");
    if (now === id) break;
    walked.push(await focusedName(page));
  }
  await page.keyboard.press(" ");
  check("keyboard: arrows walk from cause to effect", walked.length > 1, walked.join(" → "));
  await page.waitForURL(/sel=node/);
  const selected = page.locator('[role="treeitem"][aria-selected="true"]');
  await selected.first().waitFor();
  const sel = await selected.first().getAttribute("data-node");
  const heading = await text(page.getByRole("complementary").getByRole("heading", { level: 2 }));
  check("selection: panel tells of the selected node", heading.length > 0 && heading !== "Summary", heading);
  await violations(page, "story with a selection");

  // The same link gives the same picture.
  const coordinates = () =>
    items.evaluateAll((all) => all.map((e) => `${e.dataset.node} ${e.dataset.x} ${e.dataset.y}`).join("\n"));
  const before = await coordinates();
  const second = await newPage();
  await second.setViewportSize({ width: 1280, height: 720 });
  await second.goto(page.url());
  await second.getByRole("tree").waitFor();
  const there = await second
    .getByRole("treeitem")
    .evaluateAll((all) => all.map((e) => `${e.dataset.node} ${e.dataset.x} ${e.dataset.y}`).join("\n"));
  check("link: the same picture in another window", there === before || status.agents?.some((a) => !a.done));
  check(
    "link: the same selection",
    (await second.locator('[role="treeitem"][aria-selected="true"]').first().getAttribute("data-node")) ===
      sel,
  );
  await second.close();

  // Tree view: the same nodes and the same selection.
  await page.keyboard.press("v");
  const grid = page.getByRole("treegrid");
  await grid.waitFor();
  const gridNodes = await grid
    .locator("tbody tr[data-row]")
    .evaluateAll((all) => all.map((r) => r.dataset.row).filter((k) => !k.includes("→")));
  check(
    "tree: the same nodes as the graph",
    gridNodes.length === cards,
    `${gridNodes.length} rows, ${cards} cards`,
  );
  check(
    "tree: the same selection",
    (await grid.locator('tr[aria-selected="true"]').first().getAttribute("data-row")) === sel,
  );
  await violations(page, "tree");
  await page.keyboard.press("v");
  await tree.waitFor();

  // Brush by keyboard: the list gets shorter or stays, the address carries the range, Escape restores.
  const thumb = page.getByRole("slider", { name: "Start of the range" });
  if ((await thumb.count()) === 1) {
    const rowsBefore = Number(
      await page.getByRole("grid", { name: "Entries" }).getAttribute("aria-rowcount"),
    );
    await thumb.focus();
    for (let i = 0; i < 3; i++) await page.keyboard.press("Shift+ArrowRight");
    await page.waitForURL(/from=/);
    const rowsNow = Number(await page.getByRole("grid", { name: "Entries" }).getAttribute("aria-rowcount"));
    check("brush: filters the list", rowsNow <= rowsBefore, `${rowsNow} of ${rowsBefore}`);
    check(
      "brush: thumb tells the time",
      /\d\d:\d\d:\d\d/.test((await thumb.getAttribute("aria-valuetext")) ?? ""),
    );
    await violations(page, "story with a range");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    await page.waitForURL((u) => !u.hash.includes("from="));
    check(
      "brush: Escape restores",
      Number(await page.getByRole("grid", { name: "Entries" }).getAttribute("aria-rowcount")) >= rowsBefore,
    );
  }

  // Timeline and graph hold one selection.
  await page.keyboard.press("t");
  await page.keyboard.press("ArrowDown");
  await page.waitForURL(/sel=entry/);
  check(
    "timeline: arrows select entries",
    (await page.locator('[role="row"][aria-selected="true"]').count()) === 1,
  );
  await page.keyboard.press("Escape");

  // Levels of detail: names stay.
  const names = () => items.evaluateAll((all) => all.map((e) => e.textContent).join("\n"));
  const namesBefore = await names();
  const seen = new Set();
  for (let i = 0; i < 14; i++) {
    seen.add(await page.getByTestId("graph-canvas").getAttribute("data-lod"));
    await page.getByRole("button", { name: "Zoom out" }).click();
  }
  check("zoom: card, name and dot", seen.has("name") && seen.has("dot"), [...seen].join(" "));
  check("zoom: names stay", (await names()) === namesBefore);
  await page.getByRole("button", { name: "Fit the whole graph" }).click();

  // Other tabs.
  for (const [key, name] of [
    ["2", "Signals"],
    ["3", "Contexts"],
    ["4", "JSON"],
  ]) {
    await page.keyboard.press(key);
    await page.getByRole("tab", { name, selected: true }).waitFor();
    await violations(page, `tab ${name}`);
  }
  await page.keyboard.press("1");
  await tree.waitFor();

  // Help lists what is offered here.
  await page.keyboard.press("?");
  const help = page.getByRole("dialog", { name: "Keyboard" });
  await help.waitFor();
  check(
    "help: lists the keys of this page",
    (await help.getByText("graph or tree", { exact: true }).count()) === 1,
  );
  await violations(page, "help");
  await page.keyboard.press("Escape");
  await help.waitFor({ state: "detached" });

  // Narrow and short windows.
  for (const [width, height] of [
    [1280, 720],
    [900, 700],
    [320, 640],
  ]) {
    await page.setViewportSize({ width, height });
    const wide = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    );
    check(`${width} × ${height}: no horizontal scroll of the page`, wide <= 0, `${wide} px`);
  }
  await page.setViewportSize({ width: 1440, height: 900 });

  const elements = await page.evaluate(() => document.querySelectorAll("*").length);
  check("weight: at most 6,000 elements", elements <= 6000, String(elements));

  await page.emulateMedia({ colorScheme: "dark" });
  await violations(page, "story, dark");
  await page.emulateMedia({ colorScheme: "light", forcedColors: "active" });
  await violations(page, "story, forced colours");
  await page.emulateMedia({ colorScheme: "light", forcedColors: "none" });

  if (fixtures) await scenarios(page, fixtures);

  if (args.shots !== undefined) {
    mkdirSync(args.shots, { recursive: true });
    for (const scheme of ["light", "dark"]) {
      const shot = await newPage();
      await shot.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
      const worst = answer.graph.impactIds?.[0] ?? answer.graph.nodes[0]?.id;
      for (const [name, hash, ready] of [
        ["stories", "#/stories", '[data-testid="story"]'],
        ["story", `#/stories/${story}`, '[role="treeitem"]'],
        ["evidence", `#/stories/${story}?sel=node:${worst}`, '[role="treeitem"]'],
        ["tree", `#/stories/${story}?view=tree`, '[role="treegrid"]'],
      ]) {
        await shot.goto("about:blank");
        await shot.goto(base + hash);
        await shot.locator(ready).first().waitFor();
        await shot.evaluate(() => document.fonts.ready);
        await shot.screenshot({ path: join(args.shots, `${name}-${scheme}.png`) });
      }
      await shot.close();
    }
  }

  check("no request to another host", foreign.size === 0, [...foreign].join(" "));
  check(
    "no error, no dialog, no violation of the content policy",
    complaints.length === 0,
    complaints.slice(0, 5).join(" | "),
  );
} catch (error) {
  check("run", false, error instanceof Error ? error.message : String(error));
} finally {
  await browser.close();
  await fixtures?.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log(failures === 0 ? "all checks passed" : `${failures} failed`);
process.exitCode = failures === 0 ? 0 : 1;

/** What only fixtures can show: folds, trouble, hostile text, a growing story. */
async function scenarios(page, server) {
  const id = "st_9k2m41qvd7a0";
  const fresh = async (hash) => {
    await page.goto("about:blank");
    await page.goto(server.url + hash);
  };

  await fresh(`#/stories/${id}`);
  const items = page.getByRole("treeitem");
  await items.first().waitFor();
  const order = () =>
    items.evaluateAll((all) =>
      all
        .map((e) => [e.dataset.node, Number(e.dataset.y)])
        .sort((a, b) => a[1] - b[1])
        .map((e) => e[0]),
    );
  const before = await order();
  const count = await items.count();
  await page.locator('[data-node="g_disc"]').focus();
  await page.keyboard.press("ArrowRight");
  await page.locator('[data-node="m_disc3"]').waitFor();
  check("fold: adds exactly its members", (await items.count()) === count - 1 + 4);
  const after = (await order()).filter((n) => before.includes(n));
  check(
    "fold: what was shown keeps its order",
    after.join() === before.filter((n) => after.includes(n)).join(),
  );
  check("fold: is in the address", page.url().includes("open=g_disc"));
  await page.reload();
  await page.locator('[data-node="m_disc3"]').waitFor();
  check("fold: survives a reload", (await items.count()) === count - 1 + 4);
  await page.getByRole("button", { name: /^Fold / }).click();
  await page.locator('[data-node="g_disc"]').waitFor();
  check("fold: folds again", (await items.count()) === count);

  await page.getByTestId("sentence").getByRole("button", { name: "wrote /etc/cron.d/updater" }).click();
  await page.waitForURL(/sel=node:f_cron|sel=node%3Af_cron/);
  check(
    "sentence: a clause selects its node",
    (await page.locator('[data-node="f_cron"]').getAttribute("aria-selected")) === "true",
  );
  check(
    "description: names the relation over the tree",
    /ran by cron/.test((await page.locator('[data-node="f_cron"]').getAttribute("aria-description")) ?? ""),
  );
  await page.locator('[data-node="f_cron"]').focus();
  await page.keyboard.press("Shift+ArrowRight");
  check(
    "keyboard: Shift → follows it",
    (await page.evaluate(() => document.activeElement?.dataset.node)) === "p_csh",
  );
  check(
    "gap: hatched, in the list and at the lane",
    (await page.locator('[role="row"][data-kind="gap"]').count()) === 1 &&
      (await page.getByText("214 lost").count()) >= 2,
  );

  // A growing story: nothing moves sideways.
  server.state.scenario = "grow";
  let positions = new Map();
  let still = true;
  for (server.state.step = 3; server.state.step <= 21; server.state.step += 6) {
    await fresh(`#/stories/${id}`);
    await items.first().waitFor();
    const now = new Map(
      await items.evaluateAll((all) => all.map((e) => [e.dataset.node, Number(e.dataset.x)])),
    );
    for (const [node, x] of positions) if (now.has(node) && now.get(node) !== x) still = false;
    positions = new Map([...positions, ...now]);
  }
  check("growing: no card moves sideways", still);
  server.state.step = 26;
  server.state.changed();
  await page.locator('[data-node="p_rm"]').waitFor();
  check("live: a change on the stream reaches the open page", true);

  server.state.scenario = "demo";
  await fresh("#/stories/st_hostile00000?sel=node:p_upd");
  await items.first().waitFor();
  await page
    .getByText(/more characters, show all/)
    .first()
    .waitFor();
  check(
    "hostile: marks, not effects",
    (await page.locator(".mark").count()) > 5 && (await page.locator("main script, main img").count()) === 0,
  );
  const wide = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  check("hostile: does not push the page apart", wide <= 0, `${wide} px`);
  await violations(page, "hostile");

  server.state.scenario = "empty";
  await fresh("#/stories");
  await page.getByRole("heading", { name: "No stories yet" }).waitFor();
  await violations(page, "empty list");

  server.state.scenario = "down";
  await fresh(`#/stories/${id}`);
  const again = page.getByRole("button", { name: "Try again" });
  await again.waitFor();
  check(
    "trouble: the server's words and the request",
    /the store is being checked/.test(await text(page.getByRole("alert"))) &&
      /7f3a/.test(await text(page.getByRole("alert"))),
  );
  await violations(page, "error");
  server.state.scenario = "demo";
  await again.click();
  await items.first().waitFor();
  check("trouble: try again recovers", true);

  server.state.scenario = "down";
  await page.getByText(/not live since \d\d:\d\d:\d\d/).waitFor({ timeout: 30_000 });
  check("trouble: what was loaded stays, with the time since when it is old", (await items.count()) > 0);
  server.state.scenario = "demo";
  await page.getByText(/not live since/).waitFor({ state: "detached", timeout: 30_000 });
  check("trouble: live again without a reload", (await items.count()) > 0);

  server.state.scenario = "locked";
  await fresh("#/stories");
  await page.getByRole("heading", { name: "Log in to look at stories" }).waitFor();
  check("login: names the command", (await page.getByText("clew login").count()) === 1);
  await violations(page, "login");
  server.state.scenario = "demo";
}
