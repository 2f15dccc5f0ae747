// The scalar map of a polynomial iteration, step by step, on the spectrum of the matrix at hand.

import { mapChart, stepsChart } from "./charts.js";
import { h, select, show, slider } from "./dom.js";
import { number, small } from "./format.js";
import { SCHEDULES, stepped, trajectories } from "./steps.js";
import { t } from "./words.js";

const MOST_DOTS = 64;
const LEAST = 1e-8; // smaller values are rounding, and would only stretch the picture
const SAMPLES = 600;
const COLOURS = { optimal: "after", newton_schulz: "before", muon: "second" };

/** The figure; `view` keeps which schedule and step are shown. */
export function iterationFigure(view, { r, of }, spectrum, result) {
  const xs = normalised(spectrum, r, of);
  if (!xs) return null;
  const names = Object.keys(SCHEDULES).filter((name) => SCHEDULES[name].suits(r));
  const shown = (view.iteration ??= { schedule: "optimal", step: 3 });
  if (!names.includes(shown.schedule)) shown.schedule = "optimal";
  const body = h("div", {});
  const draw = () => show(body, drawing(shown, names, r, xs, of, draw));
  draw();
  const certificate = result?.certificates[0];
  return h(
    "figure",
    { class: "panel" },
    h("figcaption", {}, h("h3", {}, t("iteration.title"))),
    h(
      "p",
      { class: "muted" },
      t(of === "eigen" ? "iteration.roots" : "iteration.polar", { r }),
      certificate ? ` ${t("iteration.chosen", { method: certificate.method })}` : "",
    ),
    body,
  );
}

/** x of each value: sigma / sigma_max, or (lambda / lambda_max)^(1/r); those beyond rounding only. */
function normalised({ kind, values }, r, of) {
  if (of === "eigen" && kind !== "eigen") return null;
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const xs = [...values]
    .map((value) => (of === "eigen" ? Math.max(value / largest, 0) ** (1 / r) : Math.abs(value) / largest))
    .filter((x) => x >= LEAST);
  return xs.length ? xs : null;
}

function drawing(shown, names, r, xs, of, redraw) {
  const bound = Math.min(...xs, 1 - 1e-9);
  const steps = SCHEDULES[shown.schedule].steps(r, bound);
  const values = { xs, dots: thinned(xs), of };
  const step = Math.min(shown.step, steps.length);
  const figures = h("div", { class: "two" });
  const choose = (name) => {
    shown.schedule = name;
    redraw();
  };
  const move = (k) => {
    shown.step = k;
    show(figures, charts(shown, r, bound, steps, values, k));
  };
  show(figures, charts(shown, r, bound, steps, values, step));
  return [
    h(
      "div",
      { class: "row" },
      h(
        "div",
        { class: "field" },
        h("label", { for: "schedule" }, t("iteration.coefficients")),
        Object.assign(
          select(
            names.map((name) => [name, t(`schedule.${name}`)]),
            shown.schedule,
            choose,
          ),
          { id: "schedule" },
        ),
      ),
      slider(
        t("iteration.step"),
        { min: 0, max: steps.length, value: step, told: (k) => `${k} / ${steps.length}` },
        move,
      ),
    ),
    figures,
  ];
}

function thinned(xs) {
  const stride = Math.ceil(xs.length / MOST_DOTS);
  return xs.filter((_, place) => place % stride === 0 || place === xs.length - 1);
}

function charts(shown, r, bound, steps, { xs, dots, of }, k) {
  const moved = trajectories(steps, r, dots);
  const least = Math.min(bound, 0.5);
  const grid = Array.from({ length: SAMPLES }, (_, place) => least ** (1 - place / (SAMPLES - 1)));
  const after = (count) =>
    grid.map((x) => [x, steps.slice(0, count).reduce((value, step) => stepped(step, r, value), x)]);
  const earlier = [k - 2, k - 1]
    .filter((count) => count >= 0)
    .map((count) => ({ name: "other", points: after(count) }));
  const highest = Math.min(
    3,
    Math.max(1.3, ...earlier.flatMap(({ points }) => points.map(([, y]) => y)), ...after(k).map(([, y]) => y)) * 1.05,
  );
  const series = Object.keys(SCHEDULES)
    .filter((name) => SCHEDULES[name].suits(r))
    .map((name) => ({
      name: COLOURS[name],
      chosen: name === shown.schedule,
      told: t(`schedule.${name}`),
      values: residuals(name === shown.schedule ? steps : SCHEDULES[name].steps(r, bound), r, xs),
    }));
  const label = t("iteration.label", {
    k,
    low: number(Math.min(...moved[k])),
    high: number(Math.max(...moved[k])),
    residual: sized(series.find(({ chosen }) => chosen).values[k]),
  });
  return [
    h(
      "div",
      {},
      mapChart({
        label,
        x: [least, 1],
        y: [0, highest],
        ideal: 1,
        name: COLOURS[shown.schedule],
        curves: [...earlier, { name: COLOURS[shown.schedule], points: after(k) }],
        dots: dots.map((x, place) => [x, moved[k][place]]),
        xLabel: t("iteration.x"),
        yLabel: t("iteration.y", { k }),
      }),
      h("p", { class: "muted" }, `${label} ${t("iteration.earlier")}`),
    ),
    h(
      "div",
      {},
      stepsChart({
        label: t("iteration.errors"),
        at: k,
        series: [...series].sort((one, other) => Number(one.chosen) - Number(other.chosen)),
        xLabel: t("iteration.step"),
        yLabel: t("iteration.residual"),
      }),
      h(
        "ul",
        { class: "legend" },
        series.map(({ name, told }) => h("li", { class: name }, told)),
      ),
      h("p", { class: "muted" }, t(of === "eigen" ? "iteration.residual_roots" : "iteration.residual_polar", { r })),
    ),
  ];
}

function sized(value) {
  return value >= 0.01 ? number(value, 2) : small(value);
}

/** The residual after each step, over all values: |I - M| / n^(1/2) for the M whose eigenvalues are x^r. */
export function residuals(steps, r, xs) {
  return trajectories(steps, r, xs).map((values) =>
    Math.sqrt(values.reduce((sum, x) => sum + (1 - x ** r) ** 2, 0) / values.length),
  );
}
