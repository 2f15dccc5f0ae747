// The catalogue: every function as a card.

import { field, h, show } from "./dom.js";
import { formula, outputFormulas } from "./formula.js";
import { codeText } from "./certificate.js";
import { number } from "./format.js";
import { c, t } from "./words.js";

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
    h("p", { class: "lead" }, t("functions.lead")),
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
      pair(
        "functions.outputs",
        [
          ...entry.outputs.map((name, place) => outputLine(entry, name, place)),
          ...entry.on_request.map(requestLine),
        ],
      ),
      pair("functions.methods", tags(entry.methods)),
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
    ` (${["*", ...entry.output_shapes[place]].join(", ")}) `,
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
  const otherwise = parameter.required ? t("functions.required") : `= ${JSON.stringify(parameter.default)}`;
  return h(
    "div",
    {},
    h("code", {}, parameter.name),
    ` ${otherwise} `,
    h("span", { class: "muted" }, [range, choices, c(parameter.summary)].filter(Boolean).join(" · ")),
  );
}
