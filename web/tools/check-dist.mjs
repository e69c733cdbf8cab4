// Holds the built page to its budget: entry at most 300 kB gzip, any further script at most 125 kB, no source
// maps, no address of another host in what the page loads.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const dist = new URL("../dist/", import.meta.url);
const html = readFileSync(new URL("index.html", dist), "utf8");
const entry = /src="\.\/(assets\/[^"]+\.js)"/.exec(html)?.[1];
const problems = [];
if (!entry) problems.push("index.html names no entry script");
if (/<script(?![^>]*\bsrc=)|<style|\son\w+=/.test(html)) problems.push("index.html holds inline code");
for (const name of readdirSync(dist, { recursive: true })) {
  const path = String(name).replaceAll("\\", "/");
  if (path.endsWith(".map")) problems.push(`${path}: source maps are not shipped`);
  if (!path.endsWith(".js") && !path.endsWith(".css")) continue;
  const content = readFileSync(new URL(path, dist));
  const size = gzipSync(content, { level: 9 }).length;
  const budget = path === entry ? 300_000 : 125_000;
  console.log(`${path}: ${(size / 1000).toFixed(1)} kB gzip`);
  if (size > budget) problems.push(`${path}: ${size} bytes gzip, ${budget} allowed`);
  if (path.endsWith(".css") && /url\(["']?(https?:)?\/\//.test(content.toString()))
    problems.push(`${path}: loads from another host`);
}
for (const p of problems) console.error(p);
process.exitCode = problems.length > 0 ? 1 : 0;
