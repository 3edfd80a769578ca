"use strict";
// Names come from the kernel and from other people's programs: they are only ever put into text nodes.
const $ = (id) => document.getElementById(id);
const HISTORY = 300;
const number = new Intl.NumberFormat("en");
const state = {
  token: null, tab: "programs", filter: "", paused: false, mark: null, sample: null, attached: null, about: null,
  sort: { programs: ["cpu_percent", -1], maps: ["pressure", -1] }, open: null, history: { time: [], cpu: [], runs: [] },
  perProgram: new Map(), perMap: new Map(), detail: null, recordType: "",
};

// -- elements --------------------------------------------------------------------------------------------------------

function make(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (name === "class") node.className = value;
    else if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
function put(node, text) { if (node.textContent !== text) node.textContent = text; }
// Characters that would change how the text around them is read are shown by their number.
function safe(text) {
  return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}
function count(value) { return value === null || value === undefined ? "" : number.format(value); }
function rate(value) {
  if (!value) return "0";
  return Math.abs(value) >= 100 ? number.format(Math.round(value)) : number.format(Number(value.toFixed(1)));
}
function percent(value, digits) {
  return value ? (value < 0.005 ? "<0.01 %" : value.toFixed(value >= 10 ? 1 : digits) + " %") : "0 %";
}
function duration(ns) {
  for (const unit of ["ns", "µs", "ms"]) {
    if (Math.abs(ns) < 1000) return (ns < 10 && unit !== "ns" ? ns.toFixed(1) : Math.round(ns)) + " " + unit;
    ns /= 1000;
  }
  return ns.toFixed(ns < 100 ? 1 : 0) + " s";
}
function size(bytes) {
  if (bytes === null || bytes === undefined) return "";
  for (const unit of ["B", "KiB", "MiB"]) {
    if (bytes < 1024) return (bytes < 10 && unit !== "B" ? bytes.toFixed(1) : Math.round(bytes)) + " " + unit;
    bytes /= 1024;
  }
  return bytes.toFixed(1) + " GiB";
}
function signed(value, text) { return value > 0 ? "+" + text(value) : value < 0 ? "−" + text(-value) : "0"; }

// -- streams ---------------------------------------------------------------------------------------------------------

// Server-sent events by fetch, which sends the token in a header; an EventSource could only put it into the address.
function follow(path, onData, onEnd) {
  const abort = new AbortController();
  (async () => {
    let status = 0, ended = false;
    try {
      const answer = await fetch(path, { headers: { Authorization: "Bearer " + state.token }, signal: abort.signal, cache: "no-store" });
      status = answer.status;
      if (answer.ok) {
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          rest += value;
          let at;
          while ((at = rest.indexOf("\n\n")) >= 0) {
            const event = rest.slice(0, at);
            rest = rest.slice(at + 2);
            if (event.startsWith("data: ")) onData(JSON.parse(event.slice(6)));
            else ended = true;
          }
        }
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof TypeError)) console.error(error);
    }
    if (!abort.signal.aborted) onEnd(status, ended);
  })();
  return () => abort.abort();
}

let again = null;
function connect() {
  clearTimeout(again);
  follow("/data/machine", (sample) => {
    showState("live");
    if (sample.about) { state.about = sample.about; about(); }
    remember(sample);
    if (state.paused) return;
    state.sample = sample;
    draw();
  }, (status) => {
    if (status === 401) return ask(true);
    showState("off");
    again = setTimeout(connect, 2000);
  });
}
function showState(name) {
  $("state").className = name;
  put($("state-text"), name === "off" ? "not connected" : state.paused ? "paused" : "live");
  if (name === "live" && state.paused) $("state").className = "";
}
function about() {
  put($("about"), safe(`${state.about.host} · Linux ${state.about.kernel} · ${state.about.cpus} CPUs`));
  document.title = safe(`${state.about.host} · bpf2py top`);
}

// -- what is remembered ----------------------------------------------------------------------------------------------

function push(series, ...values) {
  series.forEach((list, index) => { list.push(values[index]); if (list.length > HISTORY) list.shift(); });
}
function remember(sample) {
  const h = state.history;
  if (!sample.seconds) return;  // the first reading: rates are not known yet
  push([h.time, h.cpu, h.runs], sample.time, sample.cpu_percent, sample.runs_per_second);
  for (const [store, rows, fields] of [[state.perProgram, sample.programs, ["cpu_percent", "runs_per_second"]], [state.perMap, sample.maps, ["elements"]]]) {
    const there = new Set();
    for (const row of rows) {
      there.add(row.id);
      let own = store.get(row.id);
      if (!own) store.set(row.id, own = [[], ...fields.map(() => [])]);
      push(own, sample.time, ...fields.map((field) => row[field]));
    }
    for (const id of store.keys()) if (!there.has(id)) store.delete(id);
  }
}
function mark() {
  if (state.mark) state.mark = null;
  else if (state.sample) {
    const at = state.sample;
    state.mark = {
      time: at.time,
      programs: new Map(at.programs.map((row) => [row.id, row])),
      maps: new Map(at.maps.map((row) => [row.id, row])),
      rows: state.detail ? { id: state.detail.id, weights: weights(state.detail) } : null,
    };
  }
  $("mark").setAttribute("aria-pressed", Boolean(state.mark));
  put($("mark"), state.mark ? "Unmark" : "Mark");
  built.programs = built.maps = null;
  draw();
  if (state.detail) drawMap(state.detail);
}
function weights(detail) { return new Map((detail.rows || []).map((row) => [row.key, row.weight])); }
function pause() {
  state.paused = !state.paused;
  $("pause").setAttribute("aria-pressed", state.paused);
  put($("pause"), state.paused ? "Go on" : "Pause");
  showState($("state").className === "off" ? "off" : "live");
}

// -- charts ----------------------------------------------------------------------------------------------------------

const charts = new Map();
function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
function chart(node, data, lines, axes) {
  const width = node.clientWidth, height = node.clientHeight;
  if (!width) return;
  let known = charts.get(node);
  if (!known) {
    const grid = { stroke: colour("--line"), width: 1 };
    const options = {
      width, height, cursor: { show: false }, legend: { show: false }, padding: axes ? [8, 12, 0, 0] : [3, 2, 3, 2],
      scales: { x: { time: true }, y: { range: (u, low, high) => [Math.min(0, low ?? 0), (high ?? 0) > 0 ? high * 1.1 : 1] } },
      axes: axes ? [
        { stroke: colour("--soft"), grid, ticks: { show: false }, font: "11px system-ui", size: 24, space: 70, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600],
          values: (u, splits) => splits.map((s) => new Date(s * 1000).toLocaleTimeString("en-GB")) },
        { stroke: colour("--soft"), grid, ticks: { show: false }, font: "11px system-ui", size: 54, space: 28, values: (u, splits) => splits.map((s) => count(Number(s.toPrecision(6)))) },
      ] : [{ show: false }, { show: false }],
      series: [{}, ...lines.map((line) => ({ stroke: colour(line), fill: colour(line) + "22", width: 1.6, points: { show: false }, spanGaps: true }))],
    };
    charts.set(node, known = new uPlot(options, data, node));
  } else {
    if (known.width !== width || known.height !== height) known.setSize({ width, height });
    known.setData(data);
  }
}
function forgetCharts() {
  for (const [node, known] of charts) { known.destroy(); charts.delete(node); }
}

// -- tables ----------------------------------------------------------------------------------------------------------

const since = (kind, field) => (row) => {
  const before = state.mark[kind].get(row.id);
  return row[field] === null ? null : row[field] - (before ? before[field] ?? 0 : 0);
};
const COLUMNS = {
  programs: () => [
    { name: "id", label: "id", num: true, wide: true, text: (row) => String(row.id) },
    { name: "name", label: "name", open: true },
    { name: "type", label: "type", wide: true, class: "type" },
    { name: "cpu_percent", label: "CPU", num: true, text: (row) => percent(row.cpu_percent, 2) },
    { name: "runs_per_second", label: "runs/s", num: true, text: (row) => rate(row.runs_per_second) },
    { name: "ns_per_run", label: "a run", num: true, wide: Boolean(state.mark), text: (row) => (row.ns_per_run ? duration(row.ns_per_run) : "–") },
    ...(state.mark ? [
      { name: "+runs", label: "runs since", num: true, delta: true, value: since("programs", "runs"), text: (row, v) => signed(v, count) },
      { name: "+time", label: "time since", num: true, delta: true, wide: true, value: since("programs", "run_time_ns"), text: (row, v) => signed(v, duration) },
    ] : []),
    { name: "runs", label: "runs ever", num: true, wide: true, spare: Boolean(state.mark), text: (row) => count(row.runs) },
  ],
  maps: () => [
    { name: "id", label: "id", num: true, wide: true, text: (row) => String(row.id) },
    { name: "name", label: "name", open: true },
    { name: "type", label: "type", wide: true, class: "type" },
    { name: "pressure", label: "full", num: true, meter: true, text: (row) => (row.pressure === null ? "" : Math.round(row.pressure * 100) + " %") },
    { name: "elements", label: "elements", num: true, wide: true, text: (row) => count(row.elements) },
    { name: "growth_per_second", label: "growth/s", num: true, wide: Boolean(state.mark), text: (row) => (row.growth_per_second === null ? "" : signed(row.growth_per_second, rate)) },
    ...(state.mark ? [{ name: "+elements", label: "since", num: true, delta: true, value: since("maps", "elements"), text: (row, v) => (v === null ? "" : signed(v, count)) }] : []),
    { name: "max_entries", label: "max_entries", num: true, wide: true, spare: true, text: (row) => count(row.max_entries) },
    { name: "memory", label: "memory", num: true, wide: true, spare: true, text: (row) => size(row.memory) },
  ],
};
const built = { programs: null, maps: null };

function table(kind) {
  const columns = COLUMNS[kind]();
  const body = make("tbody");
  const head = make("tr", null, ...columns.map((column) => {
    const cell = make("th", { scope: "col", class: classes(column) }, make("button", { type: "button", on: { click: () => {
      const [name, way] = state.sort[kind];
      state.sort[kind] = [column.name, name === column.name ? -way : column.num ? -1 : 1];
      draw();
    } } }, column.label));
    column.head = cell;
    return cell;
  }));
  const whole = make("table", { "aria-label": kind === "programs" ? "Programs" : "Maps" }, make("thead", null, head), body);
  return { kind, columns, body, rows: new Map(), node: make("div", { class: "scroll" }, whole) };
}
function classes(column) {
  return [column.num && "num", column.wide && "wide", column.spare && "spare", column.class, column.delta && "delta"].filter(Boolean).join(" ");
}
function newRow(shown, id) {
  const cells = shown.columns.map((column) => {
    if (column.open) {
      const button = make("button", { type: "button", class: "row", on: { click: () => open(shown.kind, id) } });
      return [make("td", null, button), button];
    }
    const text = document.createTextNode("");
    const cell = make("td", { class: classes(column) }, text);
    if (column.meter) { const bar = make("span"); cell.append(make("span", { class: "fill", "aria-hidden": "true" }, bar)); return [cell, text, bar]; }
    return [cell, text];
  });
  return { node: make("tr", { "data-id": id }, ...cells.map((cell) => cell[0])), cells };
}
function matches(row) {
  return !state.filter || `${row.id} ${row.name} ${row.type}`.toLowerCase().includes(state.filter);
}
function drawTable(kind) {
  if (!built[kind]) built[kind] = table(kind);
  const shown = built[kind], columns = shown.columns;
  if ($("panel").firstChild !== shown.node) $("panel").replaceChildren(shown.node);
  const [by, way] = state.sort[kind];
  const key = columns.find((column) => column.name === by) || columns[0];
  const value = (row) => (key.value ? key.value(row) : row[key.name]);
  const rows = state.sample[kind].filter(matches).sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === y) return a.id - b.id;
    if (x === null) return 1;
    if (y === null) return -1;
    return (x < y ? -1 : 1) * way;
  });
  for (const column of columns) {
    if (column === key) column.head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
    else column.head.removeAttribute("aria-sort");
  }
  const there = new Set(rows.map((row) => row.id));
  for (const [id, row] of shown.rows) if (!there.has(id)) { row.node.remove(); shown.rows.delete(id); }
  const focused = document.activeElement;
  rows.forEach((row, position) => {
    let known = shown.rows.get(row.id);
    if (!known) shown.rows.set(row.id, known = newRow(shown, row.id));
    columns.forEach((column, index) => {
      const cell = known.cells[index], raw = column.value ? column.value(row) : row[column.name];
      const text = column.text ? column.text(row, raw) : safe(raw || (column.open ? `(no name, id ${row.id})` : ""));
      put(cell[1], text);
      if (column.meter) {
        cell[2].parentNode.hidden = raw === null;
        cell[2].style.width = Math.min(100, (raw || 0) * 100) + "%";
        cell[2].className = raw >= 0.9 ? "hot" : "";
      }
    });
    const isOpen = state.open && state.open.kind === kind && state.open.id === row.id;
    known.node.classList.toggle("open", Boolean(isOpen));
    known.node.classList.toggle("idle", kind === "programs" && !row.runs_per_second);
    if (shown.body.children[position] !== known.node) shown.body.insertBefore(known.node, shown.body.children[position] || null);
  });
  if (focused && focused !== document.activeElement && document.contains(focused)) focused.focus({ preventScroll: true });
  const total = kind === "programs" ? state.sample.program_count : state.sample.map_count;
  const left = total - state.sample[kind].length;
  $("more").hidden = !left && rows.length > 0;
  put($("more"), !rows.length ? (state.filter ? "Nothing matches the filter." : `There are no ${kind}.`) : `${count(left)} more are not shown: the ${kind === "programs" ? "idlest" : "emptiest"}.`);
}

function drawAttached() {
  const data = state.attached;
  $("more").hidden = true;
  if (!data) { $("panel").replaceChildren(make("p", { class: "empty" }, "reading")); return; }
  const groups = new Map();
  for (const point of data.points) {
    const all = [point.where, point.hook, ...point.programs.map((p) => `${p.id} ${p.name}`)].join(" ").toLowerCase();
    if (state.filter && !all.includes(state.filter)) continue;
    const key = point.kind === "link" ? "link" : point.kind + "\n" + point.where;
    if (!groups.has(key)) groups.set(key, { kind: point.kind, where: point.where, points: [] });
    groups.get(key).points.push(point);
  }
  const text = JSON.stringify([...groups.values()]);
  if (drawAttached.text === text && $("panel").firstChild === drawAttached.node) return;
  drawAttached.text = text;
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.key : null;
  const node = make("div", { class: "points" });
  for (const group of groups.values()) {
    const title = group.kind === "link" ? "Other links" : safe(group.where);
    node.append(make("h3", null, title, " ", make("small", null, group.kind === "link" ? "" : group.kind)));
    for (const point of group.points) {
      const label = group.kind === "link" ? `${point.hook} ${point.where}` : point.hook;
      node.append(make("div", { class: "hook" }, make("span", { class: "name" }, safe(label)),
        make("ol", { "aria-label": safe(`programs of ${point.where} ${point.hook}, in their order`) }, ...point.programs.map((program) =>
          make("li", null, make("button", { type: "button", class: "row", "data-id": program.id, "data-key": `${label}/${point.where}/${program.id}`, on: { click: () => open("programs", program.id) } },
            safe(program.name || "(no name)"), " ", make("span", { class: "type" }, "#" + program.id)))))));
    }
  }
  if (!groups.size) node.append(make("p", { class: "empty" }, state.filter ? "Nothing matches the filter." : "Nothing is attached."));
  if (data.left_out || data.cgroups_left_out) node.append(make("p", { class: "soft" }, `${data.left_out} more places, and ${data.cgroups_left_out} control groups were not looked at.`));
  $("panel").replaceChildren(node);
  drawAttached.node = node;
  if (focused) for (const button of node.querySelectorAll("button")) if (button.dataset.key === focused) button.focus({ preventScroll: true });
}

function draw() {
  const sample = state.sample;
  if (!sample) return;
  put($("cpu"), percent(sample.cpu_percent, 2));
  put($("runs"), rate(sample.runs_per_second));
  const fullest = sample.maps.find((row) => row.pressure !== null);
  put($("fullest"), fullest ? Math.round(fullest.pressure * 100) + " %" : "–");
  put($("fullest-name"), fullest ? safe(`${fullest.name || "id " + fullest.id}, ${count(fullest.elements)} of ${count(fullest.max_entries)}`) : "no map can be counted");
  $("fullest-bar").style.width = fullest ? Math.min(100, fullest.pressure * 100) + "%" : "0";
  $("fullest-bar").className = fullest && fullest.pressure >= 0.9 ? "hot" : "";
  put($("count-programs"), count(sample.program_count));
  put($("count-maps"), count(sample.map_count));
  const h = state.history;
  chart($("cpu-chart"), [h.time, h.cpu], ["--bar"], false);
  chart($("runs-chart"), [h.time, h.runs], ["--bar"], false);
  $("marked").hidden = !state.mark;
  if (state.mark) put($("marked"), `Changes since ${new Date(state.mark.time * 1000).toLocaleTimeString("en-GB")}, ${Math.max(0, Math.round(sample.time - state.mark.time))} s ago.`);
  if (state.tab === "attached") drawAttached(); else drawTable(state.tab);
  if (state.open && state.open.kind === "programs") drawProgram();
}

// -- tabs ------------------------------------------------------------------------------------------------------------

const TABS = ["programs", "maps", "attached"];
let stopAttached = null;
function choose(tab, focus) {
  state.tab = tab;
  for (const name of TABS) {
    const button = $("tab-" + name);
    button.setAttribute("aria-selected", name === tab);
    button.tabIndex = name === tab ? 0 : -1;
    if (name === tab && focus) button.focus();
  }
  $("panel").setAttribute("aria-labelledby", "tab-" + tab);
  if (stopAttached) { stopAttached(); stopAttached = null; }
  if (tab === "attached") followAttached();
  draw();
}
function followAttached() {
  stopAttached = follow("/data/attached", (data) => { if (!state.paused) { state.attached = data; if (state.tab === "attached") drawAttached(); } },
    (status) => { stopAttached = null; if (status !== 401) setTimeout(() => { if (state.tab === "attached" && !stopAttached) followAttached(); }, 2000); });
}

// -- what is opened --------------------------------------------------------------------------------------------------

let stopMap = null, parts = null, opener = null;
function open(kind, id) {
  close(false);
  opener = document.activeElement;
  state.open = { kind, id };
  $("detail").hidden = false;
  document.querySelector(".panes").classList.add("open");
  if (kind === "maps") followMap(id);
  else drawProgram();
  draw();
  $("detail").focus({ preventScroll: true });
  if (window.matchMedia("(max-width: 1000px)").matches) $("detail").scrollIntoView({ block: "start" });
}
function close(focus) {
  if (stopMap) stopMap();
  stopMap = parts = null;
  state.open = state.detail = null;
  state.recordType = "";
  for (const [node, known] of charts) if ($("detail").contains(node)) { known.destroy(); charts.delete(node); }
  $("detail").replaceChildren();
  $("detail").hidden = true;
  document.querySelector(".panes").classList.remove("open");
  if (focus !== false) {
    if (opener && document.contains(opener)) opener.focus(); else $("list").focus();
    draw();
  }
}
function followMap(id) {
  if (stopMap) stopMap();
  const type = state.recordType ? "?type=" + encodeURIComponent(state.recordType) : "";
  stopMap = follow(`/data/map/${id}${type}`, (data) => {
    if (!state.open || state.open.kind !== "maps" || state.open.id !== id) return;
    if (state.paused && state.detail) return;
    if (state.detail && data.error) { parts.note.textContent = "It is gone: " + safe(data.error); return; }
    state.detail = data;
    const own = state.evictions && state.evictions.id === id ? state.evictions : (state.evictions = { id, data: [[], []] });
    if (data.lru) push(own.data, Date.now() / 1000, data.lru.per_second);
    if (state.mark && !data.error && (!state.mark.rows || state.mark.rows.id !== id)) state.mark.rows = { id, weights: weights(data) };
    drawMap(data);
  }, (status, ended) => { if (status === 200 && !ended && state.detail && state.detail.error) return; if (status !== 401) setTimeout(() => { if (state.open && state.open.kind === "maps" && state.open.id === id) followMap(id); }, 2000); });
}
function frame(kind, id, title, sub) {
  const key = kind + id;
  if (parts && parts.key === key) { put(parts.title, title); put(parts.sub, sub); return parts; }
  parts = { key, title: make("h2", null, title), sub: make("p", { class: "soft" }, sub), facts: make("dl", { class: "facts" }), note: make("p", { class: "soft", role: "status" }), body: make("div") };
  $("detail").replaceChildren(
    make("div", { class: "top" }, make("div", null, parts.title, parts.sub),
      make("button", { type: "button", class: "close", "aria-label": "Close", title: "Esc", on: { click: () => close() } }, "✕")),
    parts.facts, parts.note, parts.body);
  return parts;
}
function facts(node, rows) {
  const text = JSON.stringify(rows.map(([name, value]) => [name, typeof value === "string" ? value : value.map((each) => each.id)]));
  if (node.dataset.text === text) return;
  node.dataset.text = text;
  node.replaceChildren(...rows.flatMap(([name, value]) => [make("dt", null, name), typeof value === "string" ? make("dd", null, value)
    : make("dd", null, ...value.map((each) => make("button", { type: "button", class: "row", on: { click: () => open(each.kind, each.id) } }, safe(each.name || "#" + each.id))))]));
}
function drawProgram() {
  const row = state.sample && state.sample.programs.find((each) => each.id === state.open.id);
  if (!row) { frame("program", state.open.id, "Program " + state.open.id, "It is gone, or beyond what is shown."); return; }
  const p = frame("program", row.id, safe(row.name || "(no name)"), safe(`${row.type} program, id ${row.id}`));
  const names = new Map(state.sample.maps.map((each) => [each.id, each.name]));
  facts(p.facts, [
    ["CPU", percent(row.cpu_percent, 2)], ["runs", `${rate(row.runs_per_second)} a second, ${count(row.runs)} ever`],
    ["a run", `${row.ns_per_run ? duration(row.ns_per_run) : "–"} now, ${row.runs ? duration(row.run_time_ns / row.runs) : "–"} ever`],
    ...(row.map_ids.length ? [["maps", row.map_ids.map((id) => ({ kind: "maps", id, name: names.get(id) }))]] : []),
  ]);
  if (!p.cpu) {
    p.cpu = make("div", { class: "chart", role: "img", "aria-label": "CPU over time" });
    p.runs = make("div", { class: "chart", role: "img", "aria-label": "Runs a second over time" });
    p.body.append(make("h3", null, "CPU in %"), p.cpu, make("h3", null, "Runs a second"), p.runs);
  }
  const own = state.perProgram.get(row.id);
  if (own) { chart(p.cpu, [own[0], own[1]], ["--bar"], true); chart(p.runs, [own[0], own[2]], ["--bar"], true); }
}
function drawMap(data) {
  if (data.error) { const p = frame("map", data.id, "Map " + data.id, ""); put(p.note, safe(data.error)); return; }
  const types = [data.key, data.value].filter(Boolean).map(safe).join(" → ");
  const p = frame("map", data.id, safe(data.name || "(no name)"), safe(`${data.type} map, id ${data.id}`));
  const rows = [];
  if (types) rows.push(["elements", types]);
  if (data.elements !== undefined) rows.push(["filled", `${count(data.elements)} of ${count(data.max_entries)}${data.counted === "not zero" ? " are not zero" : data.pressure === null ? "" : `, ${Math.round(data.pressure * 100)} %`}`]);
  if (data.memory) rows.push(["memory", size(data.memory)]);
  if (data.lru) rows.push(["evicted", `${data.lru.how} ${count(data.lru.evicted)} since it was opened, ${rate(data.lru.per_second)} a second`]);
  if (data.ring) rows.push(["ring", `${rate(data.ring.events_per_second)} records and ${size(data.ring.bytes_per_second)} a second, ${size(data.ring.pending)} of ${size(data.ring.size)} not consumed yet`]);
  if (data.programs.length) rows.push(["used by", data.programs.map((each) => ({ kind: "programs", ...each }))]);
  if (data.held.length) rows.push(["held by", safe(data.held.join(", "))]);
  if (data.pinned.length) rows.push(["pinned", safe(data.pinned.join(", "))]);
  facts(p.facts, rows);
  put(p.note, data.unreadable ? safe(data.unreadable) : data.read ? `Only ${count(data.read)} of its elements are read.` : "");
  const own = state.perMap.get(data.id);
  place(p, "grow");  // above what is known sooner
  if (own && own[1].some((value) => value !== null) && data.elements !== undefined) series(p, "grow", "Elements", own);
  if (data.lru) series(p, "evict", "Evicted a second", state.evictions.data);
  if (data.histograms && data.histograms.length) drawHistograms(p, data.histograms);
  if (data.rows) drawRows(p, data);
  if (data.ring) drawRing(p, data.ring);
}
function place(p, name) {
  if (!p.places) p.places = {};
  if (!p.places[name]) p.body.append(p.places[name] = make("div"));
  return p.places[name];
}
function series(p, name, title, data) {
  if (!p[name]) {
    p[name] = make("div", { class: "chart", role: "img", "aria-label": title + " over time" });
    place(p, name).append(make("h3", null, title), p[name]);
  }
  chart(p[name], data, ["--bar"], true);
}
function drawHistograms(p, list) {
  if (!p.hist) p.body.append(p.hist = make("div"));
  p.hist.replaceChildren(...list.flatMap((each) => {
    const most = Math.max(1, ...each.buckets.map((bucket) => bucket[1]));
    return [make("h3", null, safe(`${each.title}: ${count(each.total)} values`)),
      make("table", { class: "hist", "aria-label": safe(each.title) }, make("tbody", null, ...each.buckets.map(([label, value]) => {
        const bar = make("span", { class: "b", "aria-hidden": "true" });
        bar.style.width = (100 * value) / most + "%";
        return make("tr", null, make("th", { scope: "row" }, safe(label)), make("td", null, count(value)), make("td", null, bar));
      })))];
  }));
}
function drawRows(p, data) {
  if (!p.table) p.body.append(p.heading = make("h3"), p.table = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Elements" }));
  const before = state.mark && state.mark.rows && state.mark.rows.id === data.id ? state.mark.rows.weights : null;
  put(p.heading, data.hidden ? `The ${data.rows.length} with the largest values; ${count(data.hidden)} more` : "All elements");
  const numeric = data.columns.map((_, index) => data.rows.every((row) => /^[-\d.]*$/.test(row.cells[index])));
  const head = make("tr", null, ...data.columns.map((name, index) => make("th", { scope: "col", class: numeric[index] ? "num" : "" }, safe(name))),
    before ? make("th", { scope: "col", class: "num delta" }, "since") : null);
  const body = make("tbody", null, ...data.rows.map((row) => make("tr", null,
    ...row.cells.map((text, index) => make("td", { class: numeric[index] ? "num" : "", title: text.length > 40 ? safe(text) : null }, safe(text))),
    before ? make("td", { class: "num delta" }, before.has(row.key) ? signed(row.weight - before.get(row.key), count) : "new") : null)));
  const place = [p.table.scrollTop, p.table.scrollLeft];
  p.table.replaceChildren(make("table", { "aria-label": "Elements" }, make("thead", null, head), body));
  [p.table.scrollTop, p.table.scrollLeft] = place;
  if (!data.rows.length) p.table.replaceChildren(make("p", { class: "empty" }, data.counted === "not zero" ? "All elements are zero." : "It is empty."));
}
function drawRing(p, ring) {
  if (!p.events) {
    p.events = make("ol", { class: "events", tabindex: "0", "aria-label": "Records, the newest first" });
    p.choice = make("select", { "aria-label": "Type of the records", on: { change: () => { state.recordType = p.choice.value; followMap(state.open.id); } } });
    p.missed = make("p", { class: "soft" });
    p.body.append(make("h3", null, "Records, the newest first"), make("p", { class: "soft" }, "They are read where they lie: the ring's own consumer still gets all of them. "), p.choice, p.missed, p.events);
  }
  const types = ["", ...ring.types];
  if (p.choice.dataset.types !== types.join("\n") && ring.types.length) {
    p.choice.dataset.types = types.join("\n");
    p.choice.replaceChildren(...types.map((name) => make("option", { value: name }, safe(name || "type by size"))));
    p.choice.value = state.recordType;
  }
  p.choice.hidden = ring.types.length < 2;
  put(p.missed, ring.missed ? `${size(ring.missed)} were overwritten before they could be shown.` : "");
  for (const event of ring.events) p.events.prepend(make("li", null, make("b", null, safe(event.type || event.size + " bytes")), " ", safe(event.text)));
  while (p.events.children.length > 200) p.events.lastChild.remove();
  if (!p.events.children.length) p.events.append(make("li", { class: "idle" }, "none yet"));
  else if (ring.events.length) for (const idle of p.events.querySelectorAll(".idle")) idle.remove();
}

// -- keys ------------------------------------------------------------------------------------------------------------

function step(way) {
  const rows = [...$("panel").querySelectorAll("button.row")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  rows[at < 0 ? (way > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + way))].focus();
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    if (document.activeElement === $("filter") && $("filter").value) { $("filter").value = ""; filter(); }
    else if (state.open) close();
    else document.activeElement.blur();
    return;
  }
  if (event.target.matches("input, select, textarea")) { if (event.target === $("filter") && event.key === "ArrowDown") { step(1); event.preventDefault(); } return; }
  if (event.target.matches("[role=tab]") && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
    const at = TABS.indexOf(state.tab) + (event.key === "ArrowRight" ? 1 : TABS.length - 1);
    choose(TABS[at % TABS.length], true);
    event.preventDefault();
    return;
  }
  const scrolls = event.target.matches(".scroll, .events");
  const keys = { 1: () => choose("programs", true), 2: () => choose("maps", true), 3: () => choose("attached", true), "/": () => $("filter").focus(), m: mark, p: pause,
    j: () => step(1), k: () => step(-1), "?": () => $("help").showModal(), ...(scrolls ? {} : { ArrowDown: () => step(1), ArrowUp: () => step(-1) }) };
  const action = keys[event.key];
  if (action) { action(); event.preventDefault(); }
});
function filter() { state.filter = $("filter").value.trim().toLowerCase(); draw(); }
$("filter").addEventListener("input", filter);
$("mark").addEventListener("click", mark);
$("pause").addEventListener("click", pause);
$("help-button").addEventListener("click", () => $("help").showModal());
for (const name of TABS) $("tab-" + name).addEventListener("click", () => choose(name));
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { forgetCharts(); draw(); if (state.detail) drawMap(state.detail); });

// -- the token -------------------------------------------------------------------------------------------------------

function ask(refused) {
  put($("ask-error"), refused && state.token ? "That is not the token." : "");
  if (!$("ask").open) $("ask").showModal();
}
$("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  start($("ask-token").value.trim().replace(/^.*#token=/, ""));
});
function start(token) {
  if (!/^[\w-]+$/.test(token)) { state.token = token || null; return ask(true); }
  state.token = token;
  try { sessionStorage.setItem("token", token); } catch { /* asked for again after a reload */ }
  $("ask").close();
  connect();
}
const given = /^#token=([\w-]+)/.exec(location.hash);
if (given) history.replaceState(null, "", location.pathname);  // out of sight, and of the history
let kept = null;
try { kept = sessionStorage.getItem("token"); } catch { /* the browser keeps nothing */ }
if (given || kept) start(given ? given[1] : kept); else ask(false);
