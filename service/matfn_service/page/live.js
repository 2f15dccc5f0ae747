// The server as it works: its report and its last batches once a second, while someone looks.

import { barChart, timeChart } from "./charts.js";
import { codeText, problemCard } from "./certificate.js";
import { h, show } from "./dom.js";
import { bytes, milliseconds, number, seconds } from "./format.js";
import { askedAfter, batchesFigure, takeBatches } from "./lanes.js";
import { barred, priceBar } from "./plan.js";
import { json } from "./service.js";
import { t } from "./words.js";

const SECONDS = 120;
const LEAST_SPAN = 30; // seconds of the charts' axes at first
const PERIOD = 1000;
const STAGES = ["read", "plan", "queue", "device", "encode", "write", "request"];
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
  const [report, batches] = await Promise.all([
    json("v1/status", { signal }),
    json(`v1/batches?after=${after}`, { signal }),
  ]);
  return { at: performance.now() / 1000, status: report.value, batches: batches.value };
}

function take(state, taken) {
  const last = state.samples.at(-1);
  if (last && taken.at - last.at > 10 * (PERIOD / 1000)) state.samples = []; // no line through the gap
  takeBatches(state, taken.batches);
  state.samples.push(taken);
  if (state.samples.length > SECONDS + 1) state.samples.shift();
}

const counted = {
  answered: ({ counters }) => counters.answered,
  refused: ({ counters }) => total(counters.failed),
  matrices: ({ batches }) => total(Object.values(batches.by_function).map(({ matrices }) => matrices)),
  batches: ({ batches }) => batches.count,
};

function total(values) {
  return Object.values(values).reduce((sum, value) => sum + value, 0);
}

/** The growth of a counter per second, sample by sample. */
function rates(samples, count) {
  return samples.slice(1).map((taken, place) => {
    const before = samples[place];
    const grown = count(taken.status) - count(before.status);
    return grown < 0 ? NaN : grown / Math.max(taken.at - before.at, 1e-3); // a restarted server counts from 0
  });
}

/** The mean of a stage over the last seconds, in milliseconds. */
export function meanOf(samples, stage) {
  const recent = samples.slice(-11).map(({ status }) => status.stages[stage]);
  const grown = (field) => recent.at(-1)[field] - recent[0][field];
  return grown("count") > 0 ? (grown("seconds") / grown("count")) * 1000 : null;
}

function draw(body, state) {
  const { samples } = state;
  const { status } = samples.at(-1);
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
        `${status.workers_alive} / ${status.workers}`,
        t("live.busy", { share: percent(busyShare(samples, status.workers)) }),
      ),
      tile(
        "live.queue",
        status.queue.jobs,
        t("live.work", { bytes: bytes(status.queue.bytes), time: seconds(status.queue.seconds) }),
      ),
      tile("live.answered", status.counters.answered, t("live.since", { time: since(status.uptime) })),
      tile("live.refused", counted.refused(status), t("live.see_below")),
      tile("live.memory", bytes(status.held_bytes), t("live.of", { most: bytes(status.queue.bound.bytes) })),
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
            { name: "before", values: rates(samples, counted.answered) },
            { name: "after", values: rates(samples, counted.refused) },
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
          series: [{ name: "before", values: rates(samples, counted.matrices) }],
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
          series: [{ name: "before", values: rates(samples, counted.batches) }],
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

function busyShare(samples, workers) {
  const recent = samples.slice(-6);
  const spent = recent.at(-1).status.worker_seconds - recent[0].status.worker_seconds;
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
  const values = STAGES.map((name) => [name, meanOf(samples, name)]);
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
