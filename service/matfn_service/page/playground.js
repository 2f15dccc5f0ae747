// The playground: a matrix, a function, and everything that there is to see of the answer.

import { beside } from "./beside.js";
import { callOf } from "./code.js";
import { certificateCard, checkText, problemCard, timingBar, toleranceOf, trueError } from "./certificate.js";
import {
  adoptedCall,
  firstCall,
  functionField,
  inputFields,
  optionFields,
  ownFields,
  summaryOf,
  tensorsOf,
} from "./calls.js";
import { h, save, show } from "./dom.js";
import { heatMap } from "./heat.js";
import { iterationFigure } from "./iteration.js";
import { readLink, writeLink } from "./link.js";
import { outputFigures } from "./outputs.js";
import { drawPlan } from "./plan.js";
import { Unreadable } from "./read.js";
import { post } from "./service.js";
import { iterationOf } from "./steps.js";
import { copy, drawCode } from "./snippet.js";
import { spectraFigure } from "./spectra.js";
import { decode, npy } from "./tensors.js";
import { t } from "./words.js";

const MOST_CHECKED = 256;
const MOST_DECOMPOSED = 1024;
const PAUSE = 120; // milliseconds without a change, after which the pictures follow a slider

/** The playground's tab; `context` has the catalogue, and keeps the state between languages. */
export function playground(context) {
  const { catalogue } = context;
  const state = (context.playground ??= { calls: {}, call: null, result: null, linked: null });
  takeLink(state, catalogue);
  const entryOf = (name) => catalogue.functions.find((entry) => entry.name === name);
  const parts = {
    controls: h("form", { class: "controls" }),
    maps: h("div", { class: "maps" }),
    verdict: h("div", {}),
    spectra: h("div", {}),
    steps: h("div", {}),
    plan: h("div", {}),
    code: h("div", {}),
  };
  const view = { state, parts, entryOf, catalogue, turn: 0 };

  parts.controls.addEventListener("submit", (event) => {
    event.preventDefault();
    run(view);
  });
  context.leave = () => {
    clearTimeout(view.pending);
    view.turn += 1;
  };
  drawControls(view);
  if (state.result) showResult(view);
  else run(view);
  return h(
    "div",
    { class: "playground" },
    parts.controls,
    h("div", { class: "results" }, parts.verdict, parts.maps, parts.spectra, parts.steps, parts.plan, parts.code),
  );
}

function takeLink(state, catalogue) {
  const linked = readLink();
  if (linked ? linked.text === state.linked : state.call) return;
  const named = (name) => catalogue.functions.find((entry) => entry.name === name);
  const entry = named(linked?.name) ?? named("inv_root") ?? catalogue.functions[0];
  state.call = linked?.name === entry.name ? adoptedCall(entry, linked.call) : firstCall(entry);
  state.calls[entry.name] = state.call;
  state.result = null;
  state.linked = linked?.text ?? null;
}

function drawControls(view) {
  const { state, parts, catalogue, entryOf } = view;
  const entry = entryOf(state.call.name);
  const change = () => changed(view);
  const choose = (name) => {
    state.call = state.calls[name] ??= firstCall(entryOf(name));
    state.result = null;
    drawControls(view);
    run(view);
    parts.controls.querySelector("select").focus();
  };
  show(
    parts.controls,
    h(
      "section",
      { class: "panel" },
      h("h2", {}, t("play.function")),
      functionField(catalogue.functions, entry.name, choose),
      summaryOf(entry),
      ownFields(entry, state.call, change),
    ),
    h(
      "section",
      { class: "panel" },
      h("h2", {}, t(entry.inputs.length > 1 ? "play.matrices" : "play.matrix")),
      inputFields(entry, state.call, change),
    ),
    h(
      "section",
      { class: "panel" },
      h("h2", {}, t("play.precision")),
      optionFields(entry, catalogue.options, state.call, change),
    ),
    h(
      "div",
      { class: "go" },
      h("button", { type: "submit", class: "primary" }, t("play.run")),
      h(
        "button",
        { type: "button", class: "quiet", onclick: (event) => copy(location.href, event.target) },
        t("play.link"),
      ),
    ),
  );
}

/** After each change: what was answered is no longer of this call, and soon the pictures are of the new one. */
function changed(view) {
  view.state.result = null;
  view.turn += 1;
  clearTimeout(view.pending);
  view.pending = setTimeout(() => {
    if (refresh(view)) show(view.parts.verdict, h("section", { class: "verdict idle" }, h("p", {}, t("play.ready"))));
  }, PAUSE);
}

/** The matrices anew, their pictures and spectra, the code and the link; false where there is no matrix yet. */
function refresh(view) {
  const { state, parts } = view;
  clearTimeout(view.pending);
  try {
    view.tensors = tensorsOf(view.entryOf(state.call.name), state.call);
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    view.tensors = null;
    show(
      parts.verdict,
      h("section", { class: "verdict idle" }, h("p", { role: "status" }, t(error.word, error.values))),
    );
    for (const part of [parts.maps, parts.spectra, parts.steps, parts.plan, parts.code]) show(part);
    return false;
  }
  state.linked = writeLink(state.call);
  drawMaps(view);
  drawCode(view);
  drawPlan(view);
  drawSpectra(view);
  return true;
}

/** Sends the call and shows what comes, unless the call has changed meanwhile. */
async function run(view) {
  const { state, parts } = view;
  if (!refresh(view)) return;
  view.turn += 1;
  const turn = view.turn;
  const { name, dtype, params, options } = state.call;
  const sent = structuredClone({ name, tensors: view.tensors, dtype, params, options });
  const button = parts.controls.querySelector(".primary");
  button.setAttribute("aria-busy", "true");
  let result;
  try {
    const { value, answer } = await post(`v1/${name}`, callOf(sent));
    const outputs = Object.entries(value.outputs).map(([output, tensor]) => ({
      name: output,
      dtype: tensor.dtype,
      ...decode(tensor),
    }));
    result = {
      sent,
      outputs,
      certificates: value.certificates,
      timing: value.timing,
      milliseconds: answer.milliseconds,
    };
  } catch (error) {
    result = { sent, error };
  } finally {
    button.removeAttribute("aria-busy");
  }
  if (view.turn !== turn) return;
  state.result = result;
  showResult(view);
}

function showResult(view) {
  const { state, parts } = view;
  const { result } = state;
  view.tensors = result.sent.tensors;
  if (result.error) show(parts.verdict, problemCard(result.error));
  else drawVerdict(view, null);
  drawMaps(view);
  drawCode(view);
  drawPlan(view);
  drawSpectra(view);
  if (!result.error) checkBeside(view); // after the spectra, which the worker then computes first
}

function drawVerdict(view, check) {
  const { result, call } = view.state;
  const certificate = result.certificates[0];
  const many =
    result.certificates.length > 1
      ? h("p", { class: "muted" }, t("play.first_of", { count: result.certificates.length }))
      : null;
  show(
    view.parts.verdict,
    certificateCard(certificate, {
      tol: toleranceOf(view.entryOf(call.name), call, certificate),
      truth: trueError(check, certificate),
      check: checkText(check, certificate),
    }),
    many,
    timingBar(result.timing, result.milliseconds),
  );
}

async function checkBeside(view) {
  const { result } = view.state;
  const { sent, outputs, certificates } = result;
  const shapes = Object.values(sent.tensors).map(({ shape }) => shape);
  if (
    shapes.some((shape) => shape.length > 2 || shape.some((size) => size > MOST_CHECKED)) ||
    certificates.length !== 1
  )
    return;
  const check = await beside("check", {
    name: sent.name,
    inputs: sent.tensors,
    params: sent.params,
    dtype: sent.dtype,
    certificate: certificates[0],
    outputs,
  });
  if (view.state.result === result) drawVerdict(view, check);
}

function drawMaps(view) {
  const { tensors, state, parts } = view;
  if (!tensors) return;
  const result = state.result && !state.result.error ? state.result : null;
  const inputs = Object.entries(tensors).map(([name, tensor]) => heatMap(name, tensor, t("play.input")));
  const outputs = result ? outputFigures(view.entryOf(state.call.name), result.outputs) : [];
  show(parts.maps, h("div", { class: "grid" }, inputs, outputs), outputs.length ? downloads(result) : null);
}

function downloads({ outputs }) {
  return h(
    "p",
    { class: "downloads" },
    outputs.map((output) =>
      h(
        "button",
        { type: "button", class: "quiet", onclick: () => save(`${output.name}.npy`, npy(output, output.dtype)) },
        t("play.save", { name: `${output.name}.npy` }),
      ),
    ),
  );
}

/** Draws the spectra; while one drawing is computed, changes wait, and the last of them is drawn next. */
async function drawSpectra(view) {
  view.waiting = true;
  if (view.drawing) return;
  view.drawing = true;
  try {
    while (view.waiting) {
      view.waiting = false;
      await drawLatest(view);
    }
  } finally {
    view.drawing = false;
  }
}

/** The input whose spectrum is shown: the one in the editor if it is a matrix, else the first that is. */
function spectralInput(entry, shown, tensors) {
  const matrices = entry.inputs.filter(({ name }) => tensors?.[name]?.shape.length === 2);
  return matrices.find(({ name }) => name === shown) ?? matrices[0];
}

async function drawLatest(view) {
  const { tensors, state, parts } = view;
  const entry = view.entryOf(state.call.name);
  const input = spectralInput(entry, state.call.shown, tensors);
  const matrix = input && tensors[input.name];
  if (!matrix || Math.max(...matrix.shape) > MOST_DECOMPOSED || !matrix.data.every(Number.isFinite)) {
    show(parts.spectra);
    show(parts.steps);
    return;
  }
  const result = state.result && !state.result.error ? state.result : null;
  const { dtype, params } = state.call;
  const outputs = (result?.outputs ?? []).filter(
    ({ shape, data }) => shape.length === 2 && data.every(Number.isFinite),
  );
  const [before, ...after] = await Promise.all([matrix, ...outputs].map((one) => beside("spectrum", { matrix: one })));
  if (view.waiting) return;
  show(parts.spectra, spectraFigure(input, before, outputs, after, dtype));
  const alone = entry.inputs.filter(({ optional }) => !optional).length === 1;
  const iteration = alone ? iterationOf(entry.name, params) : null;
  show(parts.steps, iteration ? iterationFigure(view, iteration, before, result) : null);
}
