// Small charts in SVG, drawn to the width that they are given.

import { h, show, svg } from "./dom.js";
import { number } from "./format.js";

const MARGIN = { left: 62, right: 14, top: 10, bottom: 34 };

/** A frame that draws its chart anew whenever its width changes; `draw(width, height)` gives the children of an SVG. */
export function chart(label, height, draw) {
  const frame = h("div", { class: "chart" });
  const paint = () => {
    const width = Math.max(240, frame.clientWidth);
    show(
      frame,
      svg(
        "svg",
        { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label },
        draw(width, height),
      ),
    );
  };
  new ResizeObserver(() => requestAnimationFrame(paint)).observe(frame);
  return frame;
}

/** A scale from data to pixels. */
function scaled([from, to], [start, end], log) {
  const f = log ? Math.log10 : (value) => value;
  const span = f(to) - f(from) || 1;
  return (value) => start + ((f(value) - f(from)) / span) * (end - start);
}

function decades(from, to, most) {
  const first = Math.ceil(Math.log10(from) - 1e-9);
  const last = Math.floor(Math.log10(to) + 1e-9);
  const step = Math.max(1, Math.ceil((last - first + 1) / most));
  const ticks = [];
  for (let exponent = first; exponent <= last; exponent += step) ticks.push(10 ** exponent);
  return ticks.length > 1 ? ticks : [from, to];
}

function even(from, to, most, least = 0) {
  const raw = Math.max(least, (to - from || 1) / most);
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((times) => times * unit).find((width) => width >= raw * 0.999);
  const ticks = [];
  for (let tick = Math.ceil(from / step) * step; tick <= to + step * 1e-6; tick += step)
    ticks.push(Math.abs(tick) < step * 1e-6 ? 0 : tick);
  return ticks;
}

function tickText(value, log) {
  if (!log) return number(value, 3);
  const exponent = Math.log10(value);
  return Math.abs(exponent - Math.round(exponent)) < 1e-6 && Math.abs(exponent) > 2.5
    ? `1e${Math.round(exponent)}`
    : number(value, 2);
}

/** Axes with ticks and grid, and the two scales. */
function axes({ width, height, x, y, xLabel, yLabel, logX, logY, whole, leastY = 0 }) {
  const right = width - MARGIN.right;
  const bottom = height - MARGIN.bottom;
  const toX = scaled(x, [MARGIN.left, right], logX);
  const toY = scaled(y, [bottom, MARGIN.top], logY);
  const most = Math.max(4, Math.floor(width / 80));
  let xTicks = logX ? decades(...x, most) : even(...x, most);
  if (whole) xTicks = xTicks.filter(Number.isInteger);
  const yTicks = logY ? decades(...y, 6) : even(...y, 5, leastY);
  const parts = [
    yTicks.map((tick) => [
      svg("line", { class: "rule", x1: MARGIN.left, x2: right, y1: toY(tick), y2: toY(tick) }),
      svg("text", { class: "tick", x: MARGIN.left - 6, y: toY(tick) + 4, "text-anchor": "end" }, tickText(tick, logY)),
    ]),
    xTicks.map((tick) =>
      svg("text", { class: "tick", x: toX(tick), y: bottom + 15, "text-anchor": "middle" }, tickText(tick, logX)),
    ),
    svg("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }),
    xLabel &&
      svg("text", { class: "label", x: (MARGIN.left + right) / 2, y: height - 4, "text-anchor": "middle" }, xLabel),
    yLabel &&
      svg(
        "text",
        {
          class: "label",
          x: 12,
          y: (MARGIN.top + bottom) / 2,
          "text-anchor": "middle",
          transform: `rotate(-90 12 ${(MARGIN.top + bottom) / 2})`,
        },
        yLabel,
      ),
  ];
  return { toX, toY, parts };
}

function bounds(values, log) {
  const kept = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  if (!kept.length) return log ? [0.1, 10] : [0, 1];
  let [low, high] = [Math.min(...kept), Math.max(...kept)];
  if (!log) return low === high ? [low - 0.5, high + 0.5] : [low, high];
  if (high / low < 10) [low, high] = [low / 3, high * 3];
  return [10 ** (Math.log10(low) - 0.15), 10 ** (Math.log10(high) + 0.15)];
}

/** Spectra, each a row of dots from its largest value on, on a logarithmic scale; negative values are hollow. */
export function spectrumChart({ label, series, floor, xLabel, yLabel, floorLabel }) {
  return chart(label, 250, (width, height) => {
    const sizes = series.flatMap(({ values }) => [...values].map(Math.abs));
    const longest = Math.max(2, ...series.map(({ values }) => values.length));
    let y = bounds(sizes, true);
    const shownFloor = floor && floor < y[1] && y[0] < floor * 1e3 ? floor : null;
    if (shownFloor) y = [Math.min(y[0], shownFloor / 3), y[1]];
    if (shownFloor) y[0] = Math.max(y[0], shownFloor * 1e-3);
    const { toX, toY, parts } = axes({ width, height, x: [1, longest], y, xLabel, yLabel, logY: true, whole: true });
    const radius = Math.max(1.5, Math.min(4, (width - 70) / longest / 2.4));
    const bottom = height - MARGIN.bottom;
    const dots = series.map(({ values, name }) =>
      [...values].map((value, place) => {
        const size = Math.abs(value);
        const below = !(size >= y[0]);
        const sign = value < 0 ? "negative" : "";
        return svg("circle", {
          class: `dot ${name} ${sign}`,
          cx: toX(place + 1),
          cy: below ? bottom : toY(size),
          r: radius,
        });
      }),
    );
    const line = shownFloor && [
      svg("line", {
        class: "floor",
        x1: MARGIN.left,
        x2: width - MARGIN.right,
        y1: toY(shownFloor),
        y2: toY(shownFloor),
      }),
      svg("text", { class: "tick", x: MARGIN.left + 4, y: toY(shownFloor) - 4 }, floorLabel),
    ];
    return [parts, line, dots];
  });
}

/** A curve with dots on it: the map after some steps, over the values that it is applied to. */
export function mapChart({ label, x, y, name: colour, curves, dots, xLabel, yLabel, ideal }) {
  return chart(label, 250, (width, height) => {
    const { toX, toY, parts } = axes({ width, height, x, y, xLabel, yLabel, logX: true });
    const inside = (value) => Math.min(Math.max(value, y[0]), y[1]);
    const path = (points) =>
      points
        .map(([at, value], place) => `${place ? "L" : "M"}${toX(at).toFixed(1)} ${toY(inside(value)).toFixed(1)}`)
        .join("");
    return [
      parts,
      svg("line", { class: "floor", x1: toX(x[0]), x2: toX(x[1]), y1: toY(ideal), y2: toY(ideal) }),
      curves.map(({ points, name }) => svg("path", { class: `line ${name}`, d: path(points) })),
      dots.map(([at, value]) => svg("circle", { class: `dot ${colour}`, cx: toX(at), cy: toY(inside(value)), r: 3.5 })),
    ];
  });
}

/** Lines over a whole number, such as the step; on a logarithmic scale. */
export function stepsChart({ label, series, xLabel, yLabel, at }) {
  return chart(label, 250, (width, height) => {
    const least = 1e-16;
    const y = bounds([1, ...series.flatMap(({ values }) => values.map((value) => Math.max(value, least)))], true);
    const longest = Math.max(1, ...series.map(({ values }) => values.length - 1));
    const { toX, toY, parts } = axes({ width, height, x: [0, longest], y, xLabel, yLabel, logY: true, whole: true });
    const path = (values) =>
      values
        .map((value, k) => `${k ? "L" : "M"}${toX(k).toFixed(1)} ${toY(Math.max(value, y[0])).toFixed(1)}`)
        .join("");
    return [
      parts,
      at === undefined
        ? null
        : svg("line", { class: "cursor", x1: toX(at), x2: toX(at), y1: MARGIN.top, y2: height - MARGIN.bottom }),
      series.map(({ values, name, chosen }) => [
        svg("path", { class: `line ${name} ${chosen ? "" : "thin"}`, d: path(values) }),
        !chosen
          ? null
          : values.map((value, k) =>
              svg("circle", { class: `dot ${name}`, cx: toX(k), cy: toY(Math.max(value, y[0])), r: 3 }),
            ),
      ]),
    ];
  });
}

/** Time series of the last seconds: areas from 0 up. */
export function timeChart({ label, series, seconds, unit }) {
  return chart(label, 130, (width, height) => {
    const highest = Math.max(1, ...series.flatMap(({ values }) => values.filter(Number.isFinite)));
    const { toX, toY, parts } = axes({
      width,
      height,
      x: [-seconds, 0],
      y: [0, highest * 1.1],
      xLabel: unit,
      leastY: 1,
    });
    return [
      parts,
      series.map(({ values, name }) => {
        const points = values
          .map((value, place) => [place - values.length + 1, value])
          .filter(([, value]) => Number.isFinite(value));
        if (!points.length) return null;
        const line = points
          .map(([at, value], place) => `${place ? "L" : "M"}${toX(at).toFixed(1)} ${toY(value).toFixed(1)}`)
          .join("");
        const area = `${line}L${toX(points.at(-1)[0]).toFixed(1)} ${toY(0)}L${toX(points[0][0]).toFixed(1)} ${toY(0)}Z`;
        return [svg("path", { class: `area ${name}`, d: area }), svg("path", { class: `line ${name}`, d: line })];
      }),
    ];
  });
}

/** Bars with their names below. */
export function barChart({ label, bars, xLabel }) {
  return chart(label, 225, (width, height) => {
    const highest = Math.max(1, ...bars.map(([, value]) => value));
    const { toY, parts } = axes({
      width,
      height,
      x: [0.1, 0.9],
      y: [0, highest * 1.1],
      xLabel,
      whole: true,
      leastY: 1,
    });
    const room = (width - MARGIN.left - MARGIN.right) / Math.max(1, bars.length);
    const bottom = height - MARGIN.bottom;
    return [
      parts,
      bars.map(([name, value], place) => {
        const left = MARGIN.left + place * room;
        return [
          svg("rect", {
            class: "bar",
            x: left + room * 0.12,
            width: Math.min(room * 0.76, 60),
            y: toY(value),
            height: Math.max(0, bottom - toY(value)),
          }),
          svg(
            "text",
            {
              class: "tick",
              x: left + room * 0.12 + Math.min(room * 0.76, 60) / 2,
              y: bottom + 15,
              "text-anchor": "middle",
            },
            name,
          ),
        ];
      }),
    ];
  });
}

const LETTER = 6.9; // pixels, about the width of a letter of a label

/** Marks on one line of powers of ten, their names above and below in turn, moved to the right where they would meet. */
export function errorChart(marks, label) {
  const told = marks.map((mark) => mark.told).join("; ");
  return chart(`${label}: ${told}`, 66, (width) => {
    const [low, high] = bounds(
      marks.map(({ value }) => value),
      true,
    );
    const ends = [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high))];
    const at = scaled(ends, [24, width - 24], true);
    const sorted = [...marks].sort((one, other) => one.value - other.value);
    const taken = [0, 0];
    return [
      svg("line", { class: "axis", x1: 24, x2: width - 24, y1: 33, y2: 33 }),
      decades(...ends, Math.floor(width / 110)).map((tick) =>
        svg("line", { class: "axis", x1: at(tick), x2: at(tick), y1: 30, y2: 36 }),
      ),
      sorted.map(({ name, value, told: text }, place) => {
        const x = at(value);
        const wide = [...text].reduce((sum, letter) => sum + (letter > "\u2e7f" ? 2 : 1) * LETTER, 0);
        const start = Math.max(taken[place % 2], Math.min(x - wide / 2, width - wide));
        taken[place % 2] = start + wide + 12;
        return [
          svg("circle", { class: `pin ${name}`, cx: x, cy: 33, r: 6 }),
          svg("text", { class: "label strong", x: start, y: place % 2 ? 58 : 18 }, text),
        ];
      }),
    ];
  });
}
