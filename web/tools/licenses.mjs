// A build plugin: writes licenses.txt beside the page, with the licence of every package that went into it.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Fonts come in through CSS, which tells no module; they are named here. */
const fonts = ["@fontsource-variable/inter", "@fontsource-variable/jetbrains-mono"];

export function licenses() {
  const packages = new Set(fonts);
  return {
    name: "licenses",
    generateBundle(_options, bundle) {
      for (const chunk of Object.values(bundle)) {
        if (chunk.type !== "chunk") continue;
        for (const id of Object.keys(chunk.modules)) {
          const m = /node_modules\/((?:@[^/]+\/)?[^/]+)\/(?!.*node_modules\/)/.exec(id.replaceAll("\\", "/"));
          if (m) packages.add(m[1]);
        }
      }
      const parts = [...packages].sort().map((name) => {
        const dir = join("node_modules", name);
        const about = JSON.parse(readFileSync(join(dir, "package.json"), "utf8"));
        const file = existsSync(dir) && readdirSync(dir).find((f) => /^licen[sc]e/i.test(f));
        const text = file ? readFileSync(join(dir, file), "utf8").trim() : `Licence: ${about.license}`;
        return `${name} ${about.version} (${about.license})\n\n${text.replaceAll("\r\n", "\n")}\n`;
      });
      const rule = `\n${"-".repeat(78)}\n\n`;
      this.emitFile({
        type: "asset",
        fileName: "licenses.txt",
        source: `The page of clew contains these works of others.\n${rule}${parts.join(rule)}`,
      });
    },
  };
}
