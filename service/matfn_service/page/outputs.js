// The outputs of an answer: matrices and vectors as heat maps, numbers as numbers, indices as a list.

import { h } from "./dom.js";
import { number, shapeText } from "./format.js";
import { outputFormulas } from "./formula.js";
import { heatMap } from "./heat.js";
import { t } from "./words.js";

const DIGITS = { float64: 17, float32: 9, float16: 5, bfloat16: 4 }; // so many tell a number from its neighbours
const MOST_LISTED = 64;

/** A figure of each output. */
export function outputFigures(entry, outputs) {
  const formulas = outputFormulas(entry);
  return outputs.map((output, place) => {
    const note = [t("play.answer"), formulas[place] ? [" ", formulas[place]] : null];
    if (output.shape.length === 0) return told(output, note, "scalar", number(output.data[0], DIGITS[output.dtype]));
    if (entry.kinds[place] === "index") return told(output, note, "listed", listed(output.data));
    return heatMap(output.name, output, note);
  });
}

function listed(data) {
  const rest = data.length > MOST_LISTED ? ", …" : "";
  return data.subarray(0, MOST_LISTED).join(", ") + rest;
}

function told({ name, shape }, note, kind, text) {
  return h(
    "figure",
    { class: "heat" },
    h("figcaption", {}, h("b", {}, name), ` ${shapeText(shape)} `, h("span", { class: "muted" }, note)),
    h("p", { class: kind }, text),
  );
}
