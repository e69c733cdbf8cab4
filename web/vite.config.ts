// Build of the page. `base` is relative and the router keeps its state in the URL's fragment,
// so the built files work below any path without the server having to know it.
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
// @ts-expect-error: plain JavaScript without types
import { licenses } from "./tools/licenses.mjs";

export default defineConfig({
  base: "./",
  plugins: [react(), licenses()],
  build: {
    target: ["chrome120", "firefox121", "safari17"],
    sourcemap: false,
    // The content security policy allows no data: fonts or scripts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // The budget is tools/check-dist.mjs, in bytes of gzip.
    chunkSizeWarningLimit: 2000,
    rolldownOptions: {
      output: {
        entryFileNames: "assets/[name]-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
  server: {
    // test/server.mjs, or a running clew.
    proxy: { "/clew.v1": "http://127.0.0.1:8845" },
  },
});
