// The last batches as columns: one a batch, the newest at the right, and in it a block for each call.

import { chart } from "./charts.js";
import { h, svg } from "./dom.js";
import { seconds, shapeText } from "./format.js";
import { t } from "./words.js";

const HEIGHT = 190;
const COLUMN = 22; // pixels a batch
const MOST_KEPT = 128; // twice as many as a report has
const MOST_LISTED = 6;
const COLOURS = 8;
const TOP = 8;
const BOTTOM = 30;
const LEFT = 40;

/** Takes a report of /v1/batches into the state of the view. */
export function takeBatches(state, report) {
  const log = (state.batches ??= { byNumber: new Map(), colours: new Map(), last: 0 });
  if (report.last < log.last) log.byNumber.clear(); // a server that has started anew
  log.last = report.last;
  log.now = report.now;
  log.waiting = report.waiting;
  for (const batch of report.batches) log.byNumber.set(batch.number, batch);
  for (const number of [...log.byNumber.keys()].sort((x, y) => x - y).slice(0, -MOST_KEPT)) log.byNumber.delete(number);
  for (const { calls } of report.batches)
    for (const [name] of calls) if (!log.colours.has(name)) log.colours.set(name, log.colours.size % COLOURS);
}

/** The number after which the next report has to begin: batches that still ran are asked for again. */
export function askedAfter(state) {
  const running = [...(state.batches?.byNumber.values() ?? [])].filter((batch) => batch.seconds === null);
  return Math.min(state.batches?.last ?? 0, ...running.map((batch) => batch.number - 1));
}

/** Everything that there is to see of batches: the columns, the last ones in words, and what waits. */
export function batchesFigure(state) {
  const log = state.batches;
  const batches = [...log.byNumber.values()].sort((x, y) => x.number - y.number);
  const shown = new Set(batches.slice(-60).flatMap(({ calls }) => calls.map(([name]) => name)));
  return h(
    "figure",
    { class: "panel lanes" },
    h(
      "figcaption",
      {},
      h("h2", {}, t("lanes.title")),
      h(
        "ul",
        { class: "legend" },
        [...log.colours]
          .filter(([name]) => shown.has(name))
          .map(([name, colour]) => h("li", { class: `hue-${colour}` }, h("code", {}, name))),
      ),
    ),
    h("p", { class: "muted" }, t("lanes.lead")),
    batches.length ? columns(batches, log) : h("p", { class: "muted" }, t("live.nothing")),
    h("div", { class: "two" }, lastTable(batches, log), waitingTable(log.waiting)),
  );
}

function columns(batches, log) {
  const newest = batches.at(-1);
  const label = t("lanes.label", {
    number: newest.number,
    items: newest.items,
    calls: newest.calls.length + newest.more,
  });
  return chart(label, HEIGHT, (width, height) => {
    const room = Math.max(1, Math.floor((width - LEFT) / COLUMN));
    const seen = batches.slice(-room);
    const highest = Math.max(4, ...seen.map(({ items }) => items));
    const floor = height - BOTTOM;
    const unit = (floor - TOP) / highest;
    const first = width - seen.length * COLUMN;
    return [
      [0, Math.ceil(highest / 2), highest].map((value) => [
        svg("line", {
          class: value ? "rule" : "axis",
          x1: LEFT,
          x2: width,
          y1: floor - value * unit,
          y2: floor - value * unit,
        }),
        svg("text", { class: "tick", x: LEFT - 6, y: floor - value * unit + 4, "text-anchor": "end" }, value),
      ]),
      seen.map((batch, place) => column(batch, log, first + place * COLUMN, floor, unit)),
      svg("text", { class: "label", x: (LEFT + width) / 2, y: height - 4, "text-anchor": "middle" }, t("lanes.axis")),
      seen.length * COLUMN < width - LEFT
        ? null
        : svg("text", { class: "tick", x: LEFT, y: floor + 14 }, `#${seen[0].number}`),
      svg("text", { class: "tick", x: width, y: floor + 14, "text-anchor": "end" }, `#${newest.number}`),
    ];
  });
}

function column(batch, log, x, floor, unit) {
  const blocks = [...batch.calls.map(([name, items]) => [log.colours.get(name), items])];
  const counted = batch.calls.reduce((sum, [, items]) => sum + items, 0);
  if (batch.items > counted) blocks.push(["rest", batch.items - counted]);
  let top = floor;
  return svg(
    "g",
    { class: batch.seconds === null ? "running" : null },
    svg("title", {}, told(batch)),
    blocks.map(([colour, items]) => {
      const height = Math.max(1.5, items * unit);
      top -= height;
      return svg("rect", {
        class: `block hue-${colour}`,
        x: x + 3,
        y: top + 0.5,
        width: COLUMN - 6,
        height: Math.max(1, height - 1),
      });
    }),
  );
}

function told(batch) {
  return `#${batch.number} · ${batch.calls.map(([name, items]) => `${items} × ${name}`).join(", ")}${batch.more ? " …" : ""}`;
}

/** Functions with the number of their calls. */
function functionsOf({ calls, more }) {
  const counts = new Map();
  for (const [name] of calls) counts.set(name, (counts.get(name) ?? 0) + 1);
  return `${[...counts].map(([name, count]) => (count > 1 ? `${count} × ${name}` : name)).join(", ")}${more ? `, +${more}` : ""}`;
}

function lastTable(batches, log) {
  const rows = batches.slice(-MOST_LISTED).reverse();
  return h(
    "div",
    { class: "wide", tabindex: 0, role: "group", "aria-label": t("lanes.last") },
    h(
      "table",
      {},
      h("caption", {}, t("lanes.last")),
      head(["lanes.number", "lanes.calls", "lanes.matrices", "lanes.method", "lanes.time"]),
      h(
        "tbody",
        {},
        rows.map((batch) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, `#${batch.number}`),
            h("td", {}, functionsOf(batch)),
            h("td", {}, `${batch.items} × ${shapeText(batch.shape)}`),
            h("td", {}, batch.method),
            h(
              "td",
              {},
              batch.seconds === null
                ? t("lanes.running", { time: seconds(Math.max(0, log.now - batch.at)) })
                : seconds(batch.seconds),
            ),
          ),
        ),
      ),
    ),
  );
}

function waitingTable(waiting) {
  return h(
    "div",
    { class: "wide", tabindex: 0, role: "group", "aria-label": t("lanes.waiting") },
    h(
      "table",
      {},
      h("caption", {}, t("lanes.waiting")),
      head(["call.function", "lanes.matrices", "lanes.method", "lanes.calls"]),
      h(
        "tbody",
        {},
        waiting.length
          ? waiting.map(({ function: name, shape, dtype, method, calls }) =>
              h(
                "tr",
                {},
                h("th", { scope: "row" }, h("code", {}, name)),
                h("td", {}, `${shapeText(shape)} ${dtype}`),
                h("td", {}, method),
                h("td", {}, calls),
              ),
            )
          : h("tr", {}, h("td", { colspan: 4, class: "muted" }, t("lanes.empty"))),
      ),
    ),
  );
}

function head(names) {
  return h(
    "thead",
    {},
    h(
      "tr",
      {},
      names.map((name) => h("th", { scope: "col" }, t(name))),
    ),
  );
}
