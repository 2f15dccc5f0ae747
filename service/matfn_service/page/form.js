// Fields for the parameters and options of a function, as the catalogue describes them.

import { field, h, select } from "./dom.js";
import { c, t } from "./words.js";

/** A field for each parameter; `values` keeps what differs from the defaults. */
export function parameterFields(parameters, values, changed) {
  return parameters.map((parameter) => parameterField(parameter, values, changed));
}

function parameterField(parameter, values, changed) {
  const put = (value) => {
    if (value === undefined || value === parameter.default) delete values[parameter.name];
    else values[parameter.name] = value;
    changed();
  };
  const value = values[parameter.name] ?? parameter.default;
  if (parameter.kind === "boolean") return toggle(parameter, value, put);
  return field(parameter.name, controlOf(parameter, value, put), c(parameter.summary));
}

function toggle(parameter, value, put) {
  const control = h("input", { type: "checkbox", checked: Boolean(value), onchange: () => put(control.checked) });
  return h(
    "div",
    { class: "field check" },
    h("label", {}, control, " ", parameter.name),
    h("small", {}, c(parameter.summary)),
  );
}

function controlOf(parameter, value, put) {
  if (parameter.kind === "string") return choice(parameter, value, put);
  if (EXAMPLES[parameter.kind]) return written(parameter, value, put);
  const { minimum: min, maximum: max } = parameter;
  const control = h("input", {
    type: "number",
    min,
    max: max !== null && max < 1e9 ? max : null,
    step: parameter.kind === "integer" ? 1 : "any",
    required: parameter.required,
    placeholder: parameter.nullable ? "None" : "",
    value: value ?? "",
    oninput: () =>
      put(control.value === "" ? (parameter.required ? undefined : parameter.default) : Number(control.value)),
  });
  return control;
}

function choice(parameter, value, put) {
  const options = parameter.choices.map((name) => [name, name]);
  if (parameter.nullable && parameter.default === null) options.unshift(["", t("form.automatic")]);
  return select(options, value ?? "", (name) => put(name === "" ? null : name));
}

/** What is written as text, by its kind. */
const EXAMPLES = { damping: "None, 0, 1e-6, range", coefficients: "[[3.4445, -4.775, 2.0315]]", offsets: "[0, 3, 8]" };

/** A number or a word, rows of coefficients or offsets: what reads as JSON is JSON. */
function written(parameter, value, put) {
  const control = h("input", {
    type: "text",
    spellcheck: "false",
    placeholder: EXAMPLES[parameter.kind],
    value: value === null || value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value),
    oninput: () => put(parsed(control.value.trim())),
  });
  return control;
}

function parsed(text) {
  if (text === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
