// Verification: an answer from anywhere, and whether it is one.

import { certificateCard, problemCard, toleranceOf } from "./certificate.js";
import { callOf } from "./code.js";
import { firstCall, functionField, inputFields, optionFields, ownFields, summaryOf, tensorsOf } from "./calls.js";
import { norm } from "./dense.js";
import { h, show } from "./dom.js";
import { normal } from "./generate.js";
import { heatMap } from "./heat.js";
import { inputEditor, matrixOf } from "./inputs.js";
import { Unreadable } from "./read.js";
import { post } from "./service.js";
import { decode, encode, rounded } from "./tensors.js";
import { t } from "./words.js";

const WAYS = ["example", "paste", "file"];

/** The verification's tab. */
export function verify(context) {
  const served = context.catalogue.functions
    .filter((entry) => entry.verifiability !== "none")
    .map((entry) => ({ ...entry, parameters: entry.parameters.filter((one) => !asks(entry, one)) }));
  const state = (context.verify ??= {
    name: served.find(({ name }) => name === "inv_root")?.name ?? served[0].name,
    calls: {},
    claims: {},
  });
  const form = h("form", { class: "controls" });
  const verdict = h(
    "div",
    { class: "results" },
    h("section", { class: "verdict idle" }, h("p", {}, t("verify.ready"))),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(state, served, form, verdict);
  });
  draw(context, state, served, form);
  run(state, served, form, verdict);
  return h("div", {}, h("p", { class: "lead" }, t("verify.lead")), h("div", { class: "playground" }, form, verdict));
}

/** Whether a parameter asks for a further output, which is not claimed. */
function asks(entry, parameter) {
  return entry.on_request.some((output) => output.parameter === parameter.name);
}

function draw(context, state, served, form) {
  const entry = served.find(({ name }) => name === state.name);
  const call = (state.calls[entry.name] ??= firstCall(entry));
  const claims = (state.claims[entry.name] ??= Object.fromEntries(
    entry.outputs.map((name) => [name, { way: "example", settings: { off: -2 }, text: "", given: null }]),
  ));
  const nothing = () => {};
  const choose = (name) => {
    state.name = name;
    draw(context, state, served, form);
    form.querySelector("select").focus();
  };
  show(
    form,
    h(
      "section",
      { class: "panel" },
      h("h2", {}, t("play.function")),
      functionField(served, entry.name, choose),
      summaryOf(entry),
      ownFields(entry, call, nothing),
    ),
    h("section", { class: "panel" }, h("h2", {}, t("verify.inputs")), inputFields(entry, call, nothing)),
    entry.outputs.map((name, place) =>
      h(
        "section",
        { class: "panel" },
        h("h2", {}, t("verify.claim", { name })),
        inputEditor({ name, shape: entry.output_shapes[place] }, claims[name], [], nothing, WAYS),
      ),
    ),
    h(
      "section",
      { class: "panel" },
      h("h2", {}, t("play.precision")),
      optionFields(entry, context.catalogue.options, call, nothing),
    ),
    h("div", { class: "go" }, h("button", { type: "submit", class: "primary" }, t("verify.run"))),
  );
}

async function run(state, served, form, frame) {
  const entry = served.find(({ name }) => name === state.name);
  const call = state.calls[entry.name];
  const button = form.querySelector(".primary");
  button.setAttribute("aria-busy", "true");
  try {
    const sent = {
      name: entry.name,
      tensors: tensorsOf(entry, call),
      dtype: call.dtype,
      params: call.params,
      options: call.options,
    };
    const claims = await claimed(entry, state.claims[entry.name], sent);
    const body = callOf(sent);
    for (const [name, tensor] of Object.entries(claims)) body.inputs[name] = encode(tensor, sent.dtype);
    const { value } = await post(`v1/verify/${entry.name}`, body);
    const words = value.certificates.map((certificate) =>
      certificateCard(certificate, { tol: toleranceOf(entry, call, certificate), about: "claim" }),
    );
    const maps = [
      ...Object.entries(sent.tensors).map(([name, tensor]) => heatMap(name, tensor, t("play.input"))),
      ...Object.entries(claims).map(([name, tensor]) => heatMap(name, tensor, t("verify.claimed"))),
    ];
    show(frame, words, h("div", { class: "grid" }, maps));
  } catch (error) {
    show(
      frame,
      error instanceof Unreadable
        ? h("section", { class: "verdict failed", role: "alert" }, h("p", {}, t(error.word, error.values)))
        : problemCard(error),
    );
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/** The claimed outputs as tensors: given ones, and the service's own, moved by so much. */
async function claimed(entry, claims, sent) {
  const own = Object.values(claims).some(({ way }) => way === "example")
    ? (await post(`v1/${entry.name}`, callOf(sent))).value.outputs
    : {};
  return Object.fromEntries(
    Object.entries(claims).map(([name, spec]) => {
      const tensor =
        spec.way === "example"
          ? moved(decode(own[name]), spec.settings.off)
          : matrixOf(spec, { name, shape: entry.output_shapes[entry.outputs.indexOf(name)] }, []);
      return [name, { shape: tensor.shape, data: rounded(tensor.data, sent.dtype) }];
    }),
  );
}

function moved({ shape, data }, off) {
  if (!off) return { shape, data };
  const next = normal(7);
  const noise = Float64Array.from(data, next);
  const scale = (10 ** off * norm({ data })) / norm({ data: noise });
  return { shape, data: data.map((value, place) => value + scale * noise[place]) };
}
