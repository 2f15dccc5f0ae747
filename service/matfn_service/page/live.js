// The server as it works: its report and its metrics once a second, while someone looks.

import { barChart, timeChart } from "./charts.js";
import { codeText, problemCard } from "./certificate.js";
import { h, show } from "./dom.js";
import { bytes, milliseconds, number, seconds } from "./format.js";
import { askedAfter, batchesFigure, takeBatches } from "./lanes.js";
import { barred, priceBar } from "./plan.js";
import { json, request } from "./service.js";
import { t } from "./words.js";

const SECONDS = 120;
const LEAST_SPAN = 30; // seconds of the charts' axes at first
const PERIOD = 1000;
const SLOWER = 5000; // after a failure

/** The live tab; polls until it is left, and not while the page is hidden. */
export function live(context) {
  const state = (context.live ??= { samples: [] });
  const body = h("div", {});
  const stop = new AbortController();
  let timer = null;
  let busy = false;
  const turn = async () => {
    if (busy || document.hidden || stop.signal.aborted) return;
    busy = true;
    let wait = PERIOD;
    try {
      take(state, await sample(stop.signal, askedAfter(state)));
      draw(body, state);
    } catch (error) {
      if (error.name === "AbortError") return;
      wait = SLOWER;
      show(body, problemCard(error), h("p", { class: "muted" }, t("live.retry")));
    } finally {
      busy = false;
    }
    if (!stop.signal.aborted) timer = setTimeout(turn, wait);
  };
  document.addEventListener(
    "visibilitychange",
    () => {
      clearTimeout(timer);
      turn();
    },
    { signal: stop.signal },
  );
  context.leave = () => {
    stop.abort();
    clearTimeout(timer);
  };
  turn();
  return h("div", { class: "live" }, h("p", { class: "lead" }, t("live.lead")), body);
}

async function sample(signal, after) {
  const [report, metrics, batches] = await Promise.all([
    json("v1/status", { signal }),
    request("metrics", { signal }),
    json(`v1/batches?after=${after}`, { signal }),
  ]);
  return {
    at: performance.now() / 1000,
    status: report.value,
    batches: batches.value,
    metrics: parsed(metrics.status < 400 ? metrics.text : ""),
  };
}

/** Values of Prometheus' text by name and labels; buckets of histograms are left out. */
export function parsed(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    if (line.startsWith("#") || line.includes("_bucket{")) continue;
    const at = line.lastIndexOf(" ");
    if (at > 0) values.set(line.slice(0, at), Number(line.slice(at + 1)));
  }
  return values;
}

function take(state, taken) {
  const last = state.samples.at(-1);
  if (last && taken.at - last.at > 10 * (PERIOD / 1000)) state.samples = []; // no line through the gap
  takeBatches(state, taken.batches);
  state.samples.push(taken);
  if (state.samples.length > SECONDS + 1) state.samples.shift();
}

function sum(metrics, name, label = "") {
  let total = 0;
  for (const [key, value] of metrics)
    if ((key === name || key.startsWith(`${name}{`)) && key.includes(label)) total += value;
  return total;
}

/** The growth of a counter per second, sample by sample. */
function rates(samples, name, label) {
  return samples.slice(1).map((taken, place) => {
    const before = samples[place];
    const grown = sum(taken.metrics, name, label) - sum(before.metrics, name, label);
    return grown < 0 ? NaN : grown / Math.max(taken.at - before.at, 1e-3); // a restarted server counts from 0
  });
}

/** The mean of a histogram over the last seconds, in milliseconds. */
function meanOf(samples, name, labels = "") {
  const recent = samples.slice(-11);
  const grown = (suffix) =>
    sum(recent.at(-1).metrics, `${name}_${suffix}`, labels) - sum(recent[0].metrics, `${name}_${suffix}`, labels);
  return grown("count") > 0 ? (grown("sum") / grown("count")) * 1000 : null;
}

function draw(body, state) {
  const { samples } = state;
  const { status, metrics } = samples.at(-1);
  const span = Math.min(SECONDS, Math.max(LEAST_SPAN, samples.length - 1));
  const gauges = samples.map((taken) => taken.status.queue.jobs);
  show(
    body,
    h(
      "div",
      { class: "tiles" },
      tile("live.state", t(`state.${status.state}`), status.profile?.name ?? "–"),
      tile("live.device", status.device, `matfn ${status.version}`),
      tile(
        "live.workers",
        `${sum(metrics, "matfn_workers_alive")} / ${status.workers}`,
        t("live.busy", { share: percent(busyShare(samples, status.workers)) }),
      ),
      tile(
        "live.queue",
        status.queue.jobs,
        t("live.work", { bytes: bytes(status.queue.bytes), time: seconds(status.queue.seconds) }),
      ),
      tile("live.answered", status.counters.answered, t("live.since", { time: since(status.uptime) })),
      tile(
        "live.refused",
        Object.values(status.counters.failed).reduce((total, value) => total + value, 0),
        t("live.see_below"),
      ),
      tile(
        "live.memory",
        bytes(sum(metrics, "matfn_held_bytes")),
        t("live.of", { most: bytes(sum(metrics, "matfn_held_bound_bytes")) }),
      ),
      tile("live.lag", milliseconds(status.loop.largest_lag * 1000), t("live.lag_note")),
    ),
    batchesFigure(state),
    h(
      "div",
      { class: "two" },
      figure(
        "live.calls",
        timeChart({
          label: t("live.calls"),
          seconds: span,
          unit: t("live.seconds"),
          series: [
            { name: "before", values: rates(samples, "matfn_calls_total", 'code="ok"') },
            { name: "after", values: refusals(samples) },
          ],
        }),
        [
          ["before", t("live.ok")],
          ["after", t("live.refusals")],
        ],
      ),
      figure(
        "live.matrices",
        timeChart({
          label: t("live.matrices"),
          seconds: span,
          unit: t("live.seconds"),
          series: [{ name: "before", values: rates(samples, "matfn_matrices_total", "") }],
        }),
      ),
      figure(
        "live.queued",
        timeChart({
          label: t("live.queued"),
          seconds: span,
          unit: t("live.seconds"),
          series: [{ name: "before", values: gauges }],
        }),
      ),
      figure(
        "live.batches",
        timeChart({
          label: t("live.batches"),
          seconds: span,
          unit: t("live.seconds"),
          series: [{ name: "before", values: rates(samples, "matfn_batch_matrices_count", "") }],
        }),
      ),
      figure(
        "live.sizes",
        barChart({ label: t("live.sizes"), bars: sizeBars(status.batches.histogram), xLabel: t("live.per_batch") }),
      ),
      figure("live.stages", stages(samples)),
    ),
    h("div", { class: "two" }, functionsTable(status.batches.by_function), refusalsTable(status.counters)),
  );
}

function refusals(samples) {
  const all = rates(samples, "matfn_calls_total", "");
  const ok = rates(samples, "matfn_calls_total", 'code="ok"');
  return all.map((value, place) => Math.max(0, value - ok[place]));
}

function busyShare(samples, workers) {
  const recent = samples.slice(-6);
  const spent =
    sum(recent.at(-1).metrics, "matfn_worker_seconds_total") - sum(recent[0].metrics, "matfn_worker_seconds_total");
  const passed = recent.at(-1).at - recent[0].at;
  return passed > 0 ? Math.min(1, Math.max(0, spent / passed / workers)) : 0;
}

function percent(share) {
  return `${(100 * share).toFixed(0)} %`;
}

function since(seconds) {
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function tile(name, value, note) {
  return h(
    "div",
    { class: "tile" },
    h("span", { class: "muted" }, t(name)),
    h("strong", {}, String(value)),
    h("small", {}, note),
  );
}

function figure(name, content, legend = []) {
  return h(
    "figure",
    { class: "panel" },
    h(
      "figcaption",
      {},
      h("h2", {}, t(name)),
      h(
        "ul",
        { class: "legend" },
        legend.map(([kind, text]) => h("li", { class: kind }, text)),
      ),
    ),
    content,
  );
}

/** Batches by their number of matrices, in powers of two. */
export function sizeBars(histogram) {
  const bars = new Map();
  for (const [size, count] of Object.entries(histogram)) {
    const low = 2 ** Math.floor(Math.log2(Math.max(1, Number(size))));
    bars.set(low, (bars.get(low) ?? 0) + count);
  }
  const named = (low) => (low === 1 ? "1" : `${low}–${2 * low - 1}`);
  return [...bars].sort(([x], [y]) => x - y).map(([low, count]) => [named(low), count]);
}

/** Refusals by code, and calls that nobody waited for. */
function refusalsTable({ failed, dropped_disconnected: left, dropped_deadline: late }) {
  const rows = [
    ...Object.entries(failed).map(([code, count]) => [codeText(code), count]),
    [t("live.left"), left],
    [t("live.late"), late],
  ];
  return h(
    "section",
    { class: "panel wide", tabindex: 0, "aria-label": t("live.refused") },
    h("h2", {}, t("live.refused")),
    h(
      "table",
      {},
      h(
        "tbody",
        {},
        rows.map(([name, count]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, count))),
      ),
    ),
  );
}

function stages(samples) {
  const rows = [
    ["read", "matfn_wire_seconds", 'stage="read"'],
    ["plan", "matfn_wire_seconds", 'stage="plan"'],
    ["queue", "matfn_queue_wait_seconds", ""],
    ["device", "matfn_device_seconds", ""],
    ["encode", "matfn_wire_seconds", 'stage="encode"'],
    ["write", "matfn_wire_seconds", 'stage="write"'],
    ["all", "matfn_request_seconds", ""],
  ];
  const values = rows.map(([name, metric, label]) => [name, meanOf(samples, metric, label)]);
  const longest = Math.max(1e-9, ...values.map(([, value]) => value ?? 0));
  return h(
    "table",
    { class: "bars" },
    h("caption", {}, t("live.stages_note")),
    h(
      "tbody",
      {},
      values.map(([name, value]) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, t(`stage.${name}`)),
          h("td", {}, barred(priceBar((value ?? 0) / longest), value === null ? "–" : milliseconds(value))),
        ),
      ),
    ),
  );
}

function functionsTable(functions) {
  const names = Object.keys(functions);
  if (!names.length) return h("p", { class: "muted" }, t("live.nothing"));
  const columns = Object.keys(functions[names[0]]).filter((column) => typeof functions[names[0]][column] === "number");
  return h(
    "section",
    { class: "panel wide", tabindex: 0, "aria-label": t("live.functions") },
    h("h2", {}, t("live.functions")),
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, t("call.function")),
          columns.map((column) => h("th", { scope: "col" }, t(`column.${column}`))),
        ),
      ),
      h(
        "tbody",
        {},
        names.map((name) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, h("code", {}, name)),
            columns.map((column) => h("td", {}, number(functions[name][column], 4))),
          ),
        ),
      ),
    ),
  );
}
