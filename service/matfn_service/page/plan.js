// The plan of a call: the method that the service chooses, and the price of every other.

import { h, show } from "./dom.js";
import { seconds } from "./format.js";
import { post } from "./service.js";
import { known, t } from "./words.js";

const LEAST_BAR = 0.01; // of the longest: a price that can still be seen

/** A call with the shapes of these tensors and no matrix: all that a plan depends on. */
export function emptyCall(entry, shapes, dtype, params, options) {
  const inputs = {};
  for (const input of entry.inputs) {
    const shape = shapes[input.name];
    if (!shape) continue;
    const own = input.shape.length ? shape.slice(-input.shape.length) : [];
    inputs[input.name] = { dtype, shape: [0, ...own], data: "" };
  }
  return {
    inputs,
    ...(Object.keys(params).length ? { params } : {}),
    ...(Object.keys(options).length ? { options } : {}),
  };
}

/** The plan of a call by its shapes. */
export async function planOf(entry, shapes, { dtype, params, options }) {
  return (await post(`v1/plan/${entry.name}`, emptyCall(entry, shapes, dtype, params, options))).value;
}

/** The methods with their prices, cheapest first; `answered` names the one that answered. */
export function planFigure(plan, answered = null) {
  const rows = [plan, ...plan.considered];
  const longest = Math.max(...rows.map((row) => row.seconds ?? 0));
  return h(
    "figure",
    { class: "panel plan" },
    h("figcaption", {}, h("h3", {}, t("plan.title"))),
    h("p", { class: "muted" }, t("plan.lead")),
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["plan.method", "plan.arithmetic", "plan.price"].map((name) => h("th", { scope: "col" }, t(name))),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row, place) => planRow(row, place === 0, longest)),
      ),
    ),
    h(
      "p",
      { class: "muted" },
      t(rows.length > 1 ? "plan.choice" : "plan.only", { method: plan.method }),
      answered && answered !== plan.method ? ` ${t("plan.fell", { method: answered })}` : "",
    ),
  );
}

function planRow({ method, precision, seconds: price }, isChosen, longest) {
  const bar = priceBar(Math.max(LEAST_BAR, (price ?? 0) / longest));
  return h(
    "tr",
    { class: isChosen ? "chosen" : null },
    h(
      "th",
      { scope: "row" },
      h("code", {}, method),
      isChosen ? h("b", { class: "badge" }, t("plan.chosen")) : null,
      known(`method.${method}`) ? h("small", {}, t(`method.${method}`)) : null,
    ),
    h("td", {}, precision),
    h("td", {}, barred(price === null ? null : bar, price === null ? t("plan.none") : seconds(price))),
  );
}

/** A bar in its track, and the number that it stands for. */
export function barred(bar, text) {
  return h("div", { class: "barred" }, h("span", { class: "track", "aria-hidden": "true" }, bar), text);
}

/** A bar of this part of its track. */
export function priceBar(part) {
  const bar = h("span", { class: "price" });
  bar.style.width = `${100 * part}%`;
  return bar;
}

/** Draws the plan of the playground's call into its place; of a call that is refused, nothing. */
export async function drawPlan(view) {
  const { state, parts, tensors } = view;
  view.planned = (view.planned ?? 0) + 1;
  const turn = view.planned;
  const entry = view.entryOf(state.call.name);
  const shapes = Object.fromEntries(Object.entries(tensors).map(([name, { shape }]) => [name, shape]));
  const plan = await planOf(entry, shapes, state.call).catch(() => null);
  if (turn !== view.planned) return;
  const answered = state.result && !state.result.error ? state.result.certificates[0].method : null;
  show(parts.plan, plan ? planFigure(plan, answered) : null);
}
