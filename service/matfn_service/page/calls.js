// A call in the making, which the playground and verification share: function, parameters, sizes and inputs.

import { field, fresh, h, select, show, slider } from "./dom.js";
import { parameterFields } from "./form.js";
import { KINDS, kindsFor } from "./generate.js";
import { firstSpec, inputEditor, inputTitle, matrixOf } from "./inputs.js";
import { EPS, rounded } from "./tensors.js";
import { c, t } from "./words.js";

const SIZES = { n: 32, m: 48, "m'": 48, d: 8, h: 4, hk: 4, t: 64, s: 64, dk: 16, dv: 16, dq: 16 };
const LARGEST = { n: 512, m: 512, "m'": 512, t: 512, s: 512 };
const SMALL = new Set(["solve_care", "solve_dare", "solve_sylvester", "solve_lyapunov"]);
const WELL_CONDITIONED = ["spectrum", { condition: 2 }]; // definite in half precision too
/** Kinds of the inputs, with settings where the kind's own would not do; where an entry's flags do not say enough. */
const FIRST_KINDS = {
  exp: { a: "wigner" },
  cond: { m: "spectrum" },
  eigh: { a: "wigner" },
  eigenbasis: { a: "wigner", q: ["rotation", { angle: 0 }] },
  eig_clip: { a: "wigner" },
  geometric_mean: { a: WELL_CONDITIONED, b: WELL_CONDITIONED },
  solve_discrete_lyapunov: { a: "spectrum" }, // its singular values are at most 1, and so its eigenvalues smaller
  solve_care: { r: WELL_CONDITIONED },
  solve_dare: { a: "spectrum", r: WELL_CONDITIONED },
  mcsgn: { a: "gaussian" },
  spectral_projector: { a: "gaussian" },
  msign: { m: "spectrum" },
  mclip: { m: "gaussian" },
  polar: { m: "spectrum" },
};
const PARAMS = { root: { r: 2 }, inv_root: { r: 4 }, eig_clip: { lo: 0 } };

/** The dtypes of which this page sends matrices. */
export const DTYPES = Object.keys(EPS);

/** The call as it is when a function is first chosen. */
export function firstCall(entry) {
  const sizes = {};
  for (const letter of new Set(entry.inputs.flatMap((input) => input.shape)))
    sizes[letter] = SMALL.has(entry.name) && letter !== "n" ? 8 : (SIZES[letter] ?? 16);
  const inputs = {};
  for (const input of entry.inputs) {
    const [kind, settings] = [FIRST_KINDS[entry.name]?.[input.name] ?? []].flat();
    inputs[input.name] = { ...firstSpec(input, kind, settings), used: !input.optional };
    inputs[input.name].seed = Object.keys(inputs).length;
  }
  return {
    name: entry.name,
    params: PARAMS[entry.name] ? { ...PARAMS[entry.name] } : neededParams(entry),
    options: {},
    dtype: "float32",
    sizes,
    inputs,
    shown: entry.inputs[0].name,
  };
}

/** A value for each parameter that a call needs and this page does not know. */
function neededParams(entry) {
  const needed = entry.parameters.filter((parameter) => parameter.required);
  return Object.fromEntries(needed.map((parameter) => [parameter.name, plainValue(parameter)]));
}

function plainValue({ kind, choices, minimum, maximum }) {
  if (choices.length) return choices[0];
  return Math.min(Math.max(kind === "integer" ? 2 : 0.5, minimum ?? -Infinity), maximum ?? Infinity);
}

/** A call that an address names, as far as it is one: what does not fit is as at first. */
export function adoptedCall(entry, linked) {
  const call = firstCall(entry);
  for (const letter of Object.keys(call.sizes)) {
    const size = linked.sizes?.[letter];
    if (Number.isInteger(size) && size >= 1 && size <= (LARGEST[letter] ?? 64)) call.sizes[letter] = size;
  }
  for (const input of entry.inputs)
    adoptSpec(call.inputs[input.name], linked.inputs?.[input.name], input, shapeOf(input, call));
  if (DTYPES.includes(linked.dtype) && entry.dtypes.includes(linked.dtype)) call.dtype = linked.dtype;
  if (isPlain(linked.params)) call.params = { ...linked.params };
  if (isPlain(linked.options)) call.options = { ...linked.options };
  return call;
}

function isPlain(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function adoptSpec(spec, linked, input, shape) {
  if (!isPlain(linked)) return;
  if (["generate", "paste", "file"].includes(linked.way)) spec.way = linked.way;
  if (kindsFor(input).includes(linked.kind)) Object.assign(spec, { kind: linked.kind, settings: {} });
  if (Number.isInteger(linked.seed)) spec.seed = linked.seed;
  if (typeof linked.text === "string") spec.text = linked.text;
  spec.used = !input.optional || linked.used === true;
  for (const { name, min, max } of KINDS[spec.kind].sliders(shape)) {
    const value = linked.settings?.[name];
    if (typeof value === "number") spec.settings[name] = Math.min(Math.max(value, min), max);
  }
  if (KINDS[spec.kind].decays?.includes(linked.settings?.decay)) spec.settings.decay = linked.settings.decay;
}

/** The inputs that a call has. */
export function usedInputs(entry, call) {
  return entry.inputs.filter((input) => call.inputs[input.name].used);
}

/** The shape of a generated input. */
export function shapeOf(input, call) {
  return input.shape.map((letter) => call.sizes[letter]);
}

/** The inputs' matrices as they will be sent, rounded to the dtype; throws Unreadable. */
export function tensorsOf(entry, call) {
  const tensors = {};
  for (const input of usedInputs(entry, call)) {
    const { shape, data } = matrixOf(call.inputs[input.name], input, shapeOf(input, call));
    tensors[input.name] = { shape, data: rounded(data, call.dtype) };
  }
  return tensors;
}

/** A choice among functions, in the catalogue's order. */
export function functionField(functions, chosen, choose) {
  return field(
    t("call.function"),
    select(
      functions.map((entry) => [entry.name, entry.name]),
      chosen,
      choose,
    ),
  );
}

/** The fields of parameters, dtype and options. */
export function optionFields(entry, options, call, changed) {
  const methods = options.find((option) => option.name === "method");
  const own = [
    { ...methods, choices: ["auto", ...entry.methods] },
    ...["certify", "tol", "precision"].map((name) => options.find((option) => option.name === name)),
  ].filter(Boolean);
  const dtypes = DTYPES.filter((dtype) => entry.dtypes.includes(dtype));
  return [
    h(
      "div",
      { class: "pair" },
      field(
        "dtype",
        select(
          dtypes.map((dtype) => [dtype, dtype]),
          call.dtype,
          (dtype) => {
            call.dtype = dtype;
            changed();
          },
        ),
      ),
      field(
        t("call.certify"),
        select(
          ["estimate", "proved"].map((name) => [name, t(`certify.${name}`)]),
          call.options.certify ?? "estimate",
          (name) => {
            if (name === "proved") call.options.certify = name;
            else delete call.options.certify;
            changed();
          },
        ),
      ),
    ),
    h(
      "details",
      { class: "more" },
      h("summary", {}, t("call.options")),
      parameterFields(
        own.filter((option) => option.name !== "certify"),
        call.options,
        changed,
      ),
    ),
  ];
}

/** The parameters: those that a call needs in sight, the others folded. */
export function ownFields(entry, call, changed) {
  const first = entry.parameters.filter(
    (parameter) =>
      parameter.required || ["lo", "hi", "s", "half", "tau", "variant", "p", "t", "order"].includes(parameter.name),
  );
  const rest = entry.parameters.filter((parameter) => !first.includes(parameter));
  return [
    first.length ? h("div", { class: "pair" }, parameterFields(first, call.params, changed)) : null,
    rest.length
      ? h(
          "details",
          { class: "more" },
          h("summary", {}, t("call.parameters")),
          parameterFields(rest, call.params, changed),
        )
      : null,
  ];
}

/** The editors of a call's inputs: one at a time, chosen by tabs where there are several. */
export function inputFields(entry, call, changed) {
  const frame = h("div", { class: "inputs" });
  const draw = () => {
    const input = entry.inputs.find(({ name }) => name === call.shown) ?? entry.inputs[0];
    const spec = call.inputs[input.name];
    show(
      frame,
      entry.inputs.length > 1 ? chooser(entry, call, redraw) : null,
      h("p", { class: "muted" }, inputTitle(input)),
      input.optional ? optionalField(entry, call, input, redraw) : null,
      spec.used ? [sizeSliders(input, call, redrawn), inputEditor(input, spec, shapeOf(input, call), changed)] : null,
    );
  };
  const redraw = () => {
    draw();
    changed();
  };
  const redrawn = changed;
  draw();
  return frame;
}

function chooser(entry, call, redraw) {
  const name = fresh("inputs");
  const pick = (input) => {
    call.shown = input.name;
    redraw();
  };
  return h(
    "fieldset",
    { class: "segmented wrap" },
    h("legend", { class: "unseen" }, t("call.inputs")),
    entry.inputs.map((input) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name, checked: input.name === call.shown, onchange: () => pick(input) }),
        h("span", { class: call.inputs[input.name].used ? "" : "unused" }, input.name),
      ),
    ),
  );
}

/** Whether to send an optional input; then those that may not stand beside it are not sent. */
function optionalField(entry, call, input, redraw) {
  const spec = call.inputs[input.name];
  const control = h("input", {
    type: "checkbox",
    checked: spec.used,
    onchange: () => {
      spec.used = control.checked;
      for (const other of entry.inputs)
        if (spec.used && (other.excludes === input.name || input.excludes === other.name))
          call.inputs[other.name].used = false;
      redraw();
    },
  });
  return h("div", { class: "field check" }, h("label", {}, control, ` ${t("input.give", { name: input.name })}`));
}

function sizeSliders(input, call, changed) {
  if (call.inputs[input.name].way !== "generate") return null;
  return [...new Set(input.shape)].map((letter) =>
    slider(
      input.shape.length === 2 && new Set(input.shape).size === 1 ? t("call.order", { letter }) : letter,
      { min: 1, max: LARGEST[letter] ?? 64, value: call.sizes[letter] },
      (value) => {
        call.sizes[letter] = value;
        changed();
      },
    ),
  );
}

/** What a function computes, in a line. */
export function summaryOf(entry) {
  return h("p", { class: "muted summary" }, c(entry.summary));
}
