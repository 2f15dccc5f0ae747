// The catalogue: every function as a card.

import { firstCall } from "./calls.js";
import { field, h, show } from "./dom.js";
import { formula, outputFormulas } from "./formula.js";
import { codeText } from "./certificate.js";
import { number, seconds } from "./format.js";
import { planOf } from "./plan.js";
import { c, known, t } from "./words.js";

const ORDERS = [32, 128, 512];

/** The functions' tab. */
export function functions(context) {
  const all = context.catalogue.functions;
  const cards = h("div", { class: "cards" });
  const told = h("p", { class: "muted", role: "status" });
  const input = h("input", {
    type: "search",
    spellcheck: "false",
    value: context.sought ?? "",
    oninput: () => draw(input.value),
  });
  const draw = (text) => {
    context.sought = text;
    const found = all.filter((entry) => matches(entry, text.trim().toLowerCase()));
    told.textContent = t("functions.count", { count: found.length, all: all.length });
    show(cards, found.map(card));
  };
  draw(context.sought ?? "");
  return h(
    "div",
    { class: "functions" },
    h("p", { class: "lead" }, `${t("functions.lead")} ${t("functions.accuracy")}`),
    h("div", { class: "row" }, field(t("functions.search"), input), told),
    cards,
  );
}

function matches(entry, text) {
  return [entry.name, entry.summary, c(entry.summary), entry.formula, entry.source].some((part) =>
    part.toLowerCase().includes(text),
  );
}

function card(entry) {
  return h(
    "article",
    { class: "panel card", id: `function-${entry.name}` },
    h("h2", {}, h("code", {}, entry.name)),
    h("div", { class: "formula", tabindex: 0, role: "group", "aria-label": entry.formula }, formula(entry.formula)),
    h("p", {}, c(entry.summary)),
    h(
      "dl",
      { class: "told" },
      pair("functions.inputs", entry.inputs.map(inputLine)),
      entry.parameters.length ? pair("functions.parameters", entry.parameters.map(parameterLine)) : null,
      pair("functions.outputs", [
        ...entry.outputs.map((name, place) => outputLine(entry, name, place)),
        ...entry.on_request.map(requestLine),
      ]),
      pair("functions.methods", entry.methods.map(methodLine)),
      pair("functions.cost", costDetails(entry), false),
      pair(
        "functions.checked",
        t(`verifiability.${entry.verifiability}`) +
          (entry.gradient_methods.length ? ` ${t("functions.gradient")}` : ""),
      ),
      pair("functions.dtypes", tags(entry.dtypes)),
      pair(
        "functions.errors",
        h(
          "ul",
          { class: "codes" },
          entry.errors.map((code) => h("li", {}, codeText(code))),
        ),
        true,
      ),
      pair("functions.source", entry.source),
    ),
    h(
      "p",
      { class: "row" },
      h(
        "a",
        { class: "button", href: `#playground?f=${entry.name}`, "aria-label": `${t("functions.try")}: ${entry.name}` },
        t("functions.try"),
      ),
      h(
        "a",
        { class: "quiet", href: `#console?f=${entry.name}`, "aria-label": `${t("functions.console")}: ${entry.name}` },
        t("functions.console"),
      ),
    ),
  );
}

function pair(name, value, folded = false) {
  const content = folded ? h("details", {}, h("summary", {}, t("functions.show")), value) : value;
  return [h("dt", {}, t(name)), h("dd", {}, content)];
}

function methodLine(name) {
  return h(
    "div",
    {},
    h("code", {}, name),
    known(`method.${name}`) ? h("span", { class: "muted" }, ` ${t(`method.${name}`)}`) : null,
  );
}

/** Prices on this server at a few orders, asked for when somebody looks. */
function costDetails(entry) {
  const body = h("div", {});
  const details = h("details", {}, h("summary", {}, t("functions.cost_show")), body);
  details.addEventListener("toggle", async () => {
    if (!details.open || body.childElementCount) return;
    show(body, h("p", { class: "muted", role: "status" }, t("functions.cost_asked")));
    try {
      const plans = await Promise.all(ORDERS.map((order) => planOf(entry, shapesAt(entry, order), firstCall(entry))));
      show(
        body,
        plans.map((plan, place) => costLine(ORDERS[place], plan)),
        h("p", { class: "muted" }, t("functions.cost_note")),
      );
    } catch (error) {
      show(body, h("p", { class: "wrong", role: "alert" }, error.message));
    }
  });
  return details;
}

function costLine(order, { method, seconds: price }) {
  return h(
    "div",
    {},
    h("b", {}, order),
    ` ${price === null ? t("plan.none") : seconds(price)} `,
    h("code", {}, method),
  );
}

/** The inputs that a call needs, where each dimension that may be large has this length. */
function shapesAt(entry, order) {
  const { sizes } = firstCall(entry);
  const large = (letter) => (["n", "m", "m'", "t", "s"].includes(letter) ? order : sizes[letter]);
  return Object.fromEntries(
    entry.inputs.filter(({ optional }) => !optional).map(({ name, shape }) => [name, shape.map(large)]),
  );
}

function tags(names) {
  return h(
    "span",
    { class: "tags" },
    names.map((name) => h("code", {}, name)),
  );
}

function inputLine(input) {
  return h(
    "div",
    {},
    h("code", {}, input.name),
    ` (${["*", ...input.shape].join(", ")}) `,
    h("span", { class: "muted" }, c(input.summary), input.optional ? ` · ${t("functions.optional")}` : ""),
  );
}

function requestLine({ name, shape, parameter }) {
  return h("div", {}, h("code", {}, name), ` (${["*", ...shape].join(", ")}): ${parameter}=true`);
}

function outputLine(entry, name, place) {
  return h(
    "div",
    {},
    h("code", {}, name),
    ` (${["*", ...entry.output_shapes[place]].join(", ").replace("|", ` ${t("functions.or")} `)}) `,
    outputFormulas(entry)[place],
  );
}

function parameterLine(parameter) {
  const range = [
    parameter.minimum !== null && `≥ ${number(parameter.minimum)}`,
    parameter.maximum !== null && parameter.maximum < 1e9 && `≤ ${number(parameter.maximum)}`,
  ]
    .filter(Boolean)
    .join(", ");
  const choices = parameter.choices.map((choice) => `"${choice}"`).join(", ");
  const otherwise = parameter.required
    ? t("functions.required")
    : `= ${JSON.stringify(parameter.default) ?? "None"}`.replace("null", "None");
  return h(
    "div",
    {},
    h("code", {}, parameter.name),
    ` ${otherwise} `,
    h("span", { class: "muted" }, [range, choices, c(parameter.summary)].filter(Boolean).join(" · ")),
  );
}
