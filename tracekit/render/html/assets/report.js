"use strict";
// Draws the charts, sorts and filters the tables, and links to the timeline where a server has it. No text from a run
// becomes markup: everything goes in as text nodes or through plotly, which gets it escaped.

const root = document.documentElement;
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const one = (selector, from = document) => from.querySelector(selector);
const make = (tag, text, settings = {}) => Object.assign(document.createElement(tag), { textContent: text, ...settings });

// The first is quick; browsers have it since 2025.
const bytesOf = (base64) =>
  Uint8Array.fromBase64?.(base64) ?? Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

async function unpack(id) {
  const packed = bytesOf(one(`#${id}`).textContent);
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

/* Themes: figures name their colours, the style sheet has them. */

const dark = () => getComputedStyle(root).colorScheme.includes("dark");

function coloured(value, scales, style) {
  if (typeof value === "string") {
    if (value[0] !== "@") return value;
    const name = value.slice(1);
    return name in scales ? scales[name][dark() ? 1 : 0] : style.getPropertyValue(`--c-${name}`).trim();
  }
  if (Array.isArray(value)) return value.length > 100 ? value : value.map((item) => coloured(item, scales, style));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, scales, style)]));
}

function followTheme(redraw) {
  const themes = ["auto", "light", "dark"];
  const button = one("#theme");
  const say = () => { button.textContent = `Theme: ${root.dataset.theme || "auto"}`; };
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % themes.length];
    if (next === "auto") delete root.dataset.theme; else root.dataset.theme = next;
    try {
      if (next === "auto") localStorage.removeItem("tracekit-theme"); else localStorage.setItem("tracekit-theme", next);
    } catch { /* Not kept, then. */ }
    say();
    redraw();
  });
  say();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

function followPrinting(redraw) {
  // Plotly follows the window's width by itself, but not the paper's.
  const fit = () => { redraw(); all(".plot").forEach((plot) => Plotly.relayout(plot, { autosize: true })); };
  addEventListener("beforeprint", () => { root.dataset.printing = "yes"; fit(); });
  addEventListener("afterprint", () => { delete root.dataset.printing; fit(); });
}

/* Charts. */

const figureOf = (plot, data) => {
  const figures = plot.dataset.run === undefined ? data.figures : data.runs[plot.dataset.run].figures;
  return figures[plot.dataset.figure];
};

// Charts with a row a module.
const byModule = (plot) => /^(heat|residency)-/.test(plot.dataset.figure);

function fitted({ data, layout }, plot) {
  const narrow = plot.clientWidth < 480;
  // On a phone a finger that scrolls the page must not drag the chart.
  layout.dragmode = narrow ? false : "zoom";
  // The page's own legend has the same swatches, wraps, and is there for print.
  if (plot.dataset.figure.endsWith("steps")) layout.showlegend = false;
  layout.font.family = getComputedStyle(document.body).fontFamily;
  if (narrow) {
    // There the legend has a line for each series, which must not be the chart's loss.
    if (layout.showlegend) layout.height += 18 * Math.max(0, data.filter((trace) => trace.showlegend !== false).length - 1);
    for (const axis of [layout.xaxis, layout.yaxis, layout.yaxis2]) if (axis) axis.fixedrange = true;
    // Names below an axis are turned there, and the last one reaches beyond it.
    if (layout.xaxis.type === "category" && !byModule(plot)) {
      layout.xaxis.automargin = true;
      layout.margin.r += 24;
    }
    if (layout.margin.l > 120) {
      layout.margin.l = byModule(plot) ? 96 : 72;
      layout.yaxis.automargin = !byModule(plot);
    }
    if (byModule(plot)) {
      layout.yaxis.ticktext = layout.yaxis.ticktext.map((name) => (name.length > 12 ? `${name.slice(0, 5)}…${name.slice(-6)}` : name));
    }
  }
  return layout;
}

function draw(plot, data) {
  const figure = coloured(figureOf(plot, data), data.scales, getComputedStyle(root));
  if (plot.dataset.figure === "totals") {
    const steps = Number(one("#steps-slider").value);
    figure.layout.shapes[0].x0 = figure.layout.shapes[0].x1 = steps;
  }
  const settings = { displayModeBar: false, displaylogo: false, showSendToCloud: false, responsive: true };
  const first = !plot.dataset.drawn;
  const drawn = Plotly.react(plot, figure.data, fitted(figure, plot), settings);
  plot.dataset.drawn = plot.dataset.figure;
  if (first && byModule(plot)) plot.on("plotly_click", (event) => found(plot, event.points[0]));
  return drawn;
}

// Until what was drawn is seen; a page in the background has no frames to wait for.
const painted = () => new Promise((resume) => {
  requestAnimationFrame(() => setTimeout(resume, 0));
  setTimeout(resume, 100);
});

/* Other views of a chart, and the heat map's table. */

function values(z) {
  const bytes = bytesOf(z.bdata);
  const [rows, columns] = z.shape.split(",").map(Number);
  const flat = new Float32Array(bytes.buffer);
  return Array.from({ length: rows }, (_, row) => flat.subarray(row * columns, (row + 1) * columns));
}

const unescaped = (text) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");

function heatTable(details, plot, data) {
  const trace = figureOf(plot, data).data[0];
  const table = document.createElement("table");
  table.append(make("caption", `${trace.colorbar.title.text}, by module and step`));
  const head = table.createTHead().insertRow();
  ["module", ...trace.x].forEach((name, index) =>
    head.append(make("th", name, { scope: "col", className: index ? "" : "text" })));
  const body = table.createTBody();
  values(trace.z).forEach((row, index) => {
    const line = body.insertRow();
    line.append(make("td", unescaped(trace.y[index]), { className: "text mono" }));
    row.forEach((value) => line.append(make("td", Number.isNaN(value) ? "-" : value.toPrecision(3))));
  });
  one(".scroll", details).replaceChildren(table);
}

function switchViews(data) {
  for (const button of all("[data-view]")) {
    const card = button.closest("section");
    const plot = one(".plot", card);
    button.addEventListener("click", () => {
      all("[data-view]", card).forEach((other) => other.setAttribute("aria-pressed", other === button));
      plot.dataset.figure = button.dataset.view;
      draw(plot, data);
      const details = one(".heat-table[open]", card);
      if (details) heatTable(details, plot, data);
    });
  }
  for (const details of all(".heat-table")) {
    const plot = one(".plot", details.closest("section"));
    details.addEventListener("toggle", () => { if (details.open) heatTable(details, plot, data); });
  }
}

/* The table of modules. */

const FIRST_ROWS = 20;
const served = () => ["127.0.0.1", "localhost"].includes(location.hostname) && location.protocol === "http:";
const several = () => all(".modules").length > 1;

function moduleTable(table, modules) {
  const own = `[data-run="${table.dataset.run}"]`;
  const search = one(`input[type=search]${own}`), count = one(`.count${own}`), more = one(`.more${own}`);
  const state = { column: 7, descending: true, whole: false };
  const key = (row, column) => (column < 2 ? modules.texts[row][column] : modules.values[row][column - 2]);
  const heads = all("thead th", table);

  function order(first, second) {
    const a = key(first, state.column), b = key(second, state.column);
    if (a === null || b === null) return (a === null) - (b === null);
    const sign = typeof a === "string" ? (a < b ? -1 : a > b ? 1 : 0) : a - b;
    return (state.descending ? -sign : sign) || first - second;
  }

  function show() {
    const words = search.value.toLowerCase();
    const rows = modules.texts.map((_, row) => row)
      .filter((row) => modules.texts[row][0].toLowerCase().includes(words)).sort(order);
    const shown = state.whole ? rows : rows.slice(0, FIRST_ROWS);
    one("tbody", table).replaceChildren(...shown.map((row) => line(row)));
    count.textContent = `${rows.length.toLocaleString("en")} of ${modules.texts.length.toLocaleString("en")} modules`;
    more.hidden = rows.length <= FIRST_ROWS;
    more.textContent = state.whole ? `Show the first ${FIRST_ROWS}` : `Show all ${rows.length.toLocaleString("en")}`;
    heads.forEach((head, column) => {
      if (column === state.column) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  function line(row) {
    const result = document.createElement("tr");
    modules.texts[row].forEach((text, column) => {
      const cell = make("td", text, { className: column < 2 ? `text${column ? "" : " mono"}` : "" });
      const moment = modules.moments[row];
      if (!column && moment && served()) cell.append(" ", timelineLink(moment[0], moment[1], table.dataset.run, text));
      result.append(cell);
    });
    return result;
  }

  heads.forEach((head, column) => {
    const button = make("button", head.textContent, { type: "button" });
    button.addEventListener("click", () => {
      state.descending = state.column === column ? !state.descending : column > 1;
      state.column = column;
      show();
    });
    head.replaceChildren(button);
  });
  search.addEventListener("input", show);
  more.addEventListener("click", () => { state.whole = !state.whole; show(); });
  one(`.csv${own}`).addEventListener("click", () => download(modules));
  show();
}

function found(plot, point) {
  const search = one(`input[type=search][data-run="${plot.dataset.run}"]`);
  if (!search) return;
  // A row of several modules is called after its first and last: what both begin with finds them all.
  const [first, last] = unescaped(point.y).split(" to ");
  let length = first.length;
  while (last && !last.startsWith(first.slice(0, length))) length -= 1;
  search.value = first.slice(0, length);
  search.dispatchEvent(new Event("input"));
  search.scrollIntoView({ block: "center" });
  search.focus({ preventScroll: true });
}

function download(modules) {
  // A leading apostrophe keeps a spreadsheet from taking a name for a formula.
  const cell = (value) => {
    const text = value === null ? "" : String(value);
    return `"${(typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  };
  const lines = modules.texts.map((row, index) => [row[0], row[1], ...modules.values[index]].map(cell).join(","));
  const url = URL.createObjectURL(new Blob([[modules.csv.join(","), ...lines].join("\r\n")], { type: "text/csv" }));
  make("a", "", { href: url, download: "modules.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/* The slider of the break-even chart. */

function slide(data) {
  const slider = one("#steps-slider");
  if (!slider) return;
  function show() {
    const steps = Number(slider.value);
    one("#steps-output").textContent = slider.value;
    const longest = Math.max(...data.totals.map((line) => line.values[steps - 1]));
    const ranked = [...data.totals].sort((a, b) => a.values[steps - 1] - b.values[steps - 1]);
    one("#ranking").replaceChildren(...ranked.map((line) => {
      const item = document.createElement("li"), length = make("span", "", { className: `length k-${line.role}` });
      length.style.width = `${100 * line.values[steps - 1] / longest}%`;
      item.append(make("span", line.name), length, make("span", line.texts[steps - 1]));
      return item;
    }));
    const plot = one('.plot[data-figure="totals"]');
    if (plot.dataset.drawn) Plotly.relayout(plot, { "shapes[0].x0": steps, "shapes[0].x1": steps });
  }
  slider.addEventListener("input", show);
  show();
}

/* Links to the timeline: only where `tracekit open` serves the page. */

function address(start, end, run) {
  const asked = new URLSearchParams({ start, end });
  if (several()) asked.set("run", run);
  return `viewer?${asked}`;
}

function timelineLink(start, end, run, what) {
  const link = make("a", "In the timeline", { href: address(start, end, run), className: "moment", target: "_blank" });
  link.setAttribute("aria-label", `${what} in the timeline`);
  return link;
}

function linkTimeline() {
  if (!served() || !one("#open-trace")) return;
  one("#open-file").hidden = true;
  one("#open-trace").hidden = false;
  all(".links").forEach((details) => { details.hidden = false; });
  for (const link of all("a.moment")) {
    const { startNs, endNs, run } = link.dataset;
    link.href = address(startNs, endNs, run);
    link.target = "_blank";
    link.hidden = false;
  }
}

// The first chart comes first: what only an answer to the reader needs waits until it is seen.
async function begin() {
  linkTimeline();
  const [library, data] = await Promise.all([unpack("library"), unpack("data").then(JSON.parse)]);
  document.head.append(make("script", library));
  const [first, ...others] = all(".plot");
  if (first) await draw(first, data);
  await painted();
  const redraw = () => all(".plot").forEach((plot) => draw(plot, data));
  followTheme(redraw);
  switchViews(data);
  slide(data);
  all("table.modules").forEach((table) => moduleTable(table, data.runs[table.dataset.run].modules));
  followPrinting(redraw);
  for (const plot of others) {
    await draw(plot, data);
    await painted();
  }
  root.dataset.ready = "yes";
}

begin().catch((error) => {
  all(".plot").forEach((plot) => { plot.textContent = `The chart could not be drawn: ${error.message}`; });
  throw error;
});
