// The spectrum of an input, and those of the answers.

import { spectrumChart } from "./charts.js";
import { h } from "./dom.js";
import { number } from "./format.js";
import { EPS } from "./tensors.js";
import { t } from "./words.js";

/** The figure: the input's values and those of each output that is a matrix, on one scale. */
export function spectraFigure(input, before, outputs, after, dtype) {
  const kind = (spectrum) => t(spectrum.kind === "eigen" ? "spectrum.eigen" : "spectrum.singular");
  const sorted = (values) => [...values].sort((x, y) => Math.abs(y) - Math.abs(x));
  const series = [
    {
      name: "before",
      values: sorted(before.values),
      told: t("spectrum.of", { kind: kind(before), name: input.name }),
    },
    ...after.map((spectrum, place) => ({
      name: place ? "second" : "after",
      values: sorted(spectrum.values),
      told: t("spectrum.of", { kind: kind(spectrum), name: outputs[place].name }),
    })),
  ];
  const range = ({ values, told }) =>
    t("spectrum.range", { told, largest: number(Math.abs(values[0])), smallest: number(Math.abs(values.at(-1))) });
  const label = series.map(range).join("; ");
  const floor = EPS[dtype] * Math.abs(series[0].values[0]);
  return h(
    "figure",
    { class: "panel" },
    h("figcaption", {}, h("h3", {}, t("spectrum.title")), legend(series)),
    spectrumChart({
      label,
      series,
      floor,
      xLabel: t("spectrum.index"),
      yLabel: "",
      floorLabel: t("spectrum.floor", { dtype }),
    }),
    h(
      "p",
      { class: "muted" },
      `${label}.`,
      series.some(({ values }) => values.some((value) => value < 0)) ? ` ${t("spectrum.negative")}` : "",
    ),
  );
}

function legend(series) {
  return h(
    "ul",
    { class: "legend" },
    series.map(({ name, told }) => h("li", { class: name }, told)),
  );
}
