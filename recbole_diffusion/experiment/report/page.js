"use strict";
// The table of results: views, filter, sorting, details. All text is set as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const table = document.getElementById("results");
const controls = Object.fromEntries(["q", "view", "rows"].map((id) => [id, document.getElementById(id)]));
const state = { q: "", view: data.views[0].key, rows: "models", sort: "", dir: "" };
const opened = new Set();

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function threeDigits(value) {
  if (Number.isInteger(value) && Math.abs(value) < 1000) return String(value);
  const rounded = Number(value.toPrecision(3));
  const digits = Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1))));
  return rounded.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function number(value, kind) {
  if (value === null || value === undefined) return "–";
  if (kind === "whole") return Math.round(value).toLocaleString("en-US");
  if (kind === "cost") return threeDigits(value);
  if (Math.abs(value) >= 100) return value.toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  return value.toFixed(4);
}

const signed = (value) => (value === null || value === undefined ? "–" : (value < 0 ? "−" : "+") + Math.abs(value).toFixed(4));
const pText = (p) => (p === null || p === undefined ? "–" : p < 0.001 ? "< .001" : p.toFixed(3).replace(/^0/, ""));

function columns() {
  const view = data.views.find((one) => one.key === state.view);
  const first = [{ key: "model", name: "model", text: (row) => row.model }];
  if (data.datasets.length > 1) first.push({ key: "dataset", name: "data set", left: true, text: (row) => row.dataset });
  if (state.rows === "runs") first.push({ key: "seed", name: "seed", value: (row) => row.seed, show: (v) => String(v) });
  else if (data.partial) first.push({ key: "n", name: "runs", value: (row) => row.n, show: (v, row) => `${v}/${row.planned}` });
  const metrics = view.metrics.map((key) => ({ ...data.metrics[key], key, metric: true, value: (row) => row.metrics[key]?.mean }));
  const costs = view.costs.map((key) => ({
    key, name: data.costs[key].name, value: (row) => row.costs[key], show: (v) => number(v, data.costs[key].kind),
  }));
  return [...first, ...metrics, ...(view.detail && state.rows === "models" ? detailColumns(view.metrics[0]) : []), ...costs];
}

function detailColumns(key) {
  const cell = (row) => row.metrics[key] || {};
  return [
    { key: "interval", name: "95 % interval", value: (row) => cell(row).low, show: (v, row) => (v == null ? "–" : `${number(v)} – ${number(cell(row).high)}`) },
    { key: "difference", name: `difference from ${data.references.length === 1 ? data.references[0] : "the reference"}`, value: (row) => cell(row).difference, show: signed },
    { key: "p", name: "p (Wilcoxon, Holm)", value: (row) => cell(row).p, show: pText },
    { key: "effect", name: "effect d_z", value: (row) => cell(row).effect, show: (v) => (v == null ? "–" : v.toFixed(2).replace("-", "−")) },
    { key: "wins", name: "users won / tied / lost", value: (row) => cell(row).wins, show: (v, row) => (v == null ? "–" : `${v} / ${cell(row).ties} / ${cell(row).losses}`) },
  ];
}

function listed() {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = data.rows.filter((row) => {
    const text = `${row.model} ${row.dataset} ${row.diffusion ? "diffusion" : ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  if (state.rows === "models") return rows;
  return rows.flatMap((row) => row.runs.map((run) => ({
    ...row, ...run, metrics: Object.fromEntries(Object.entries(run.metrics).map(([key, mean]) => [key, { mean }])), of: row,
  })));
}

// The best and the second best of a column within each data set, by the numbers that are shown.
function places(rows, column) {
  const found = new Map();
  if (!column.metric || !column.better || state.rows === "runs") return found;
  for (const dataset of data.datasets) {
    const shown = rows.filter((row) => row.dataset === dataset && column.value(row) != null);
    const order = [...new Set(shown.map((row) => Number(number(column.value(row)).replace(/,/g, ""))))].sort((a, b) => column.better * (b - a));
    if (order.length < 2) continue;
    for (const row of shown) {
      const place = order.indexOf(Number(number(column.value(row)).replace(/,/g, "")));
      if (place < 2) found.set(row, place ? "second" : "best");
    }
  }
  return found;
}

function sorted(rows, all) {
  const column = all.find((one) => one.key === state.sort) || all.find((one) => one.key === data.main) || all.find((one) => one.metric) || all[0];
  state.sort = column.key;
  if (!state.dir) state.dir = firstDirection(column);
  const sign = state.dir === "ascending" ? 1 : -1;
  const valueOf = (row) => (column.text ? column.text(row).toLowerCase() : column.value(row));
  return [...rows].sort((a, b) => {
    const [x, y] = [valueOf(a), valueOf(b)];
    if (x == null || y == null) return (x == null) - (y == null);  // without a value: last
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
  });
}

const firstDirection = (column) => (column.metric && column.better !== -1 ? "descending" : "ascending");

function render() {
  const all = columns();
  const rows = sorted(listed(), all);
  const best = new Map(all.map((column) => [column, places(rows, column)]));
  const head = element("tr");
  for (const column of all) {
    const cell = element("th", null, column.left ? "left" : "");
    cell.scope = "col";
    if (column.key === state.sort) cell.setAttribute("aria-sort", state.dir);
    const button = element("button", column.name + (column.metric && column.better !== 1 ? " ↓" : ""));
    button.type = "button";
    button.dataset.sort = column.key;
    cell.append(button);
    head.append(cell);
  }
  const body = element("tbody");
  for (const row of rows) body.append(...rowElements(row, all, best));
  if (!rows.length) {
    const cell = element("td", "no rows", "quiet");
    cell.colSpan = all.length;
    const line = element("tr");
    line.append(cell);
    body.append(line);
  }
  const thead = element("thead");
  thead.append(head);
  table.replaceChildren(thead, body);
  document.getElementById("count").textContent = `${rows.length} row${rows.length === 1 ? "" : "s"}`;
}

function rowElements(row, all, best) {
  const line = element("tr");
  const name = `${row.dataset}/${row.model}/${row.seed ?? ""}`;
  for (const [index, column] of all.entries()) {
    const cell = element(index ? "td" : "th", null, column.left ? "left" : "");
    if (!index) {
      cell.scope = "row";
      const button = element("button", row.model, "open");
      button.type = "button";
      button.dataset.open = name;
      button.setAttribute("aria-expanded", String(opened.has(name)));
      cell.append(button);
      if (row.diffusion) cell.append(" ", element("span", "diffusion", "kind"));
    } else if (column.text) cell.textContent = column.text(row);
    else fillNumber(cell, column, row, best.get(column));
    line.append(cell);
  }
  return opened.has(name) ? [line, detail(row, all.length)] : [line];
}

function fillNumber(cell, column, row, best) {
  const value = column.value(row);
  cell.append(element("span", column.show ? column.show(value, row) : number(value), best.get(row)));
  if (!column.metric || state.rows === "runs") return;
  const numbers = row.metrics[column.key] || {};
  const widest = Math.max(...data.rows.map((one) => one.metrics[column.key]?.sd ?? -1));
  if (numbers.sd != null) cell.append(element("span", ` ± ${number(numbers.sd)}`, "spread"));
  const mark = element("span", numbers.differs ? "†" : "", "mark");
  if (numbers.differs) mark.title = `differs from ${row.reference}: p ${pText(numbers.p)} (Wilcoxon, Holm)`;
  cell.append(mark);
  if (numbers.sd == null && widest >= 0 && value != null) cell.append(element("span", ` ± ${number(widest)}`, "spread none"));  // aligns the means
}

function detail(row, width) {
  const outer = element("td");
  const cell = element("div", null, "inside");
  outer.append(cell);
  outer.colSpan = width;
  const runs = row.of ? row.of.runs.filter((run) => run.seed === row.seed) : row.runs;
  const of = row.of || row;
  for (const [title, settings] of [["Settings of this model", of.settings], ["Chosen by tuning", of.best]]) {
    if (settings && Object.keys(settings).length) cell.append(element("h4", title), settingsList(settings));
  }
  if (runs.length) cell.append(element("h4", "Runs"), runsTable(runs));
  const missing = row.of ? [] : of.missing;
  if (missing.length) cell.append(element("h4", "Missing"), element("p", missing.map((one) => `seed ${one.seed}: ${one.reason}`).join("; ")));
  if (of.warnings.length) {
    const list = element("ul", null, "plain");
    for (const text of of.warnings) list.append(element("li", text));
    cell.append(element("h4", "Warnings"), list);
  }
  if (Object.keys(of.all_settings).length) cell.append(element("h4", "All settings that were passed"), settingsList(of.all_settings));
  const line = element("tr", null, "detail");
  line.append(outer);
  return line;
}

function settingsList(settings) {
  const lines = Object.entries(settings).map(([key, value]) => `${key}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
  return element("pre", lines.join("\n"));
}

function runsTable(runs) {
  const columns = [
    ["seed", (run) => run.seed], ["best epoch", (run) => run.best_epoch ?? "–"], ["epochs", (run) => run.costs.epochs ?? "–"],
    [`validation ${data.valid_metric}`, (run) => number(run.valid_score)], [`test ${data.metrics[data.main]?.name ?? data.main}`, (run) => number(run.metrics[data.main])],
    ["s in all", (run) => number(run.costs.total_s, "cost")], ["started", (run) => run.started || "–"], ["key", (run) => run.key || "–"],
  ];
  const made = element("table");
  const head = element("tr");
  for (const [name] of columns) {
    const cell = element("th", name);
    cell.scope = "col";
    head.append(cell);
  }
  const thead = element("thead");
  thead.append(head);
  const body = element("tbody");
  for (const run of runs) {
    const line = element("tr");
    for (const [, show] of columns) line.append(element("td", show(run)));
    body.append(line);
  }
  made.append(thead, body);
  return made;
}

function fromHash() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(state)) if (words.has(key)) state[key] = words.get(key);
  if (!data.views.some((view) => view.key === state.view)) state.view = data.views[0].key;
  if (state.rows !== "runs") state.rows = "models";
  if (!["ascending", "descending"].includes(state.dir)) state.dir = "";
  for (const [id, control] of Object.entries(controls)) control.value = state[id];
  render();
}

function changed() {
  const words = new URLSearchParams(Object.entries(state).filter(([, value]) => value));
  history.replaceState(null, "", `#${words}`);
  render();
}

for (const [id, control] of Object.entries(controls)) {
  control.addEventListener("input", () => {
    state[id] = control.value;
    if (id !== "q") Object.assign(state, { sort: id === "view" ? "" : state.sort, dir: id === "view" ? "" : state.dir });
    changed();
  });
}
table.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { sort, open } = button.dataset;
  if (sort !== undefined) {
    const column = columns().find((one) => one.key === sort);
    const opposite = state.dir === "ascending" ? "descending" : "ascending";
    Object.assign(state, { sort, dir: state.sort === sort ? opposite : firstDirection(column) });
    changed();
  } else if (open !== undefined) {
    if (!opened.delete(open)) opened.add(open);
    render();
  }
  const selector = sort !== undefined ? "sort" : "open";
  [...table.querySelectorAll("button")].find((one) => one.dataset[selector] === button.dataset[selector])?.focus();
});
window.addEventListener("hashchange", fromHash);
fromHash();
