// Holds one request open until the UI has the trace, and the browser's cache every file that the UI may ask for later:
// its end tells the server that it is not needed any more.
"use strict";
const held = new AbortController();
const pause = milliseconds => new Promise(resume => setTimeout(resume, milliseconds));

async function traceOpen() {
  // `app` is the UI's own global for its integration tests. Should it go, the server stays until the page closes.
  while (!(window.app && app.trace && !app.isLoadingTrace)) await pause(200);
}

async function keepFiles() {
  for (const name of await (await fetch("files.json")).json()) await (await fetch(name)).arrayBuffer();
}

fetch("../alive", {signal: held.signal}).catch(() => {});
traceOpen().then(keepFiles).then(() => held.abort());
