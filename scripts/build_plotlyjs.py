#!/usr/bin/env python
"""Build the plotly.js that reports carry, check it, and put it into the package. Takes npm.

npm's smallest ready bundle with heat maps, plotly.js-cartesian-dist-min, has nine kinds of charts that no report draws,
the descriptions of every attribute, and a wrapper that makes a browser parse all of it twice; a report's first chart
waited for that longer than for everything else. This one registers what reports draw by plotly.js' own custom-bundle
interface (lib/core and register). For another version: change the constants, run this, and run the tests.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "4.1.1"
ESBUILD = "0.25.12"
NEWEST = "2026-11-20"
"""No package that was published later is taken, so that the same dependencies are bundled again."""
SHA256 = "66c1636bc304b73773ed8833ab58742e3081ee02c0dd8e0d4a59e96bf9954549"
"""Of the unpacked script. tests/render/html compares it with the package's."""
FOLDER = Path(__file__).parents[1] / "tracekit" / "render" / "html" / "vendor"

BUILD = r"""
import { readFileSync } from "node:fs";
import { build } from "esbuild";

// Scatter charts are in the core. The first expression's value is what the script leaves in the global Plotly.
const entry = `
  const Plotly = require("plotly.js/lib/core");
  Plotly.register([require("plotly.js/lib/bar"), require("plotly.js/lib/heatmap")]);
  module.exports = Plotly;
`;

// Attributes' descriptions are for plotly.js' documentation; its own bundles leave them out, too.
const description = /^\s*description: (\[[^\]]*?\]\.join\(.*\)|'.*'|".*"),?$/gm;
const undescribed = {
  name: "undescribed",
  setup: ({ onLoad }) =>
    onLoad({ filter: /plotly\.js[\\/]src[\\/].*\.js$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replace(description, ""),
    })),
};

await build({
  stdin: { contents: entry, resolveDir: "." },
  bundle: true,
  minify: true,
  // An immediately called function in brackets: browsers compile it once, at once.
  format: "iife",
  globalName: "Plotly",
  target: "es2022",
  define: { global: "window" },
  legalComments: "eof",
  banner: { js: process.argv[2] },
  plugins: [undescribed],
  outfile: "plotly.min.js",
});
"""
BANNER = f"""/**
* plotly.js (scatter, bar and heat map) v{VERSION}
* Copyright 2012-2026, Plotly, Inc.
* Licensed under the MIT license
*/"""


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        packages = (f"plotly.js@{VERSION}", f"esbuild@{ESBUILD}")
        options = ("--ignore-scripts", "--no-audit", "--no-fund", f"--before={NEWEST}")
        (folder / "package.json").write_text('{"private": true}\n')
        (folder / "build.mjs").write_text(BUILD)
        subprocess.run(["npm", "install", *options, *packages], cwd=folder, check=True)
        subprocess.run(["node", "build.mjs", BANNER], cwd=folder, check=True)
        script = (folder / "plotly.min.js").read_bytes()
        licence = (folder / "node_modules" / "plotly.js" / "LICENSE").read_bytes()
    found = hashlib.sha256(script).hexdigest()
    if found != SHA256:
        print(f"the script's SHA-256 is {found}, not {SHA256}", file=sys.stderr)
        return 1
    (FOLDER / "plotly.min.js.gz").write_bytes(gzip.compress(script, 9, mtime=0))
    (FOLDER / "plotly-LICENSE.txt").write_bytes(licence)
    print(f"plotly.js {VERSION} in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
