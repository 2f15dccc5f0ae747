// The console: a ready call of every route and function, to change and send.

import { firstCall, shapeOf } from "./calls.js";
import { field, h, save, show } from "./dom.js";
import { bytes, milliseconds, number } from "./format.js";
import { generate } from "./generate.js";
import { hasKey, request } from "./service.js";
import { copy } from "./snippet.js";
import { count, decode, nested } from "./tensors.js";
import { problemCard } from "./certificate.js";
import { c, t } from "./words.js";

const SIZE = 3;
const SETTINGS = { condition: 1, angle: 0 }; // few decimals say enough of such matrices
const MOST_SHOWN = 200_000;
const MOST_DECODED = 64;

/** The console's tab. */
export function console(context) {
  const { catalogue } = context;
  const asked = new URLSearchParams(location.hash.split("?")[1] ?? "").get("f");
  const entry = catalogue.functions.find(({ name }) => name === asked);
  const state = (context.console ??= { path: "v1/inv_root", texts: {} });
  if (entry && state.asked !== asked) Object.assign(state, { path: `v1/${asked}`, asked });
  const area = h("textarea", { class: "editor-area", rows: 18, spellcheck: "false", "aria-label": t("console.call") });
  const about = h("p", { class: "muted" });
  const problem = h("p", { class: "wrong", role: "alert" });
  const answer = h(
    "div",
    { class: "results" },
    h("section", { class: "verdict idle" }, h("p", {}, t("console.ready"))),
  );
  const chooser = routes(catalogue, state.path, (path) => {
    state.path = path;
    draw();
  });
  const send = h("button", { type: "submit", class: "primary" }, t("console.send"));
  const reset = h(
    "button",
    {
      type: "button",
      class: "quiet",
      onclick: () => {
        delete state.texts[state.path];
        draw();
      },
    },
    t("console.reset"),
  );
  const curl = h(
    "button",
    { type: "button", class: "quiet", onclick: () => copy(curlText(state.path, area.value), curl) },
    t("console.curl"),
  );
  const draw = () => {
    const isPost = POSTS.test(state.path);
    area.value = state.texts[state.path] ?? (isPost ? readyText(catalogue, state.path) : "");
    area.disabled = !isPost;
    about.textContent = `${isPost ? "POST" : "GET"} /${state.path} · ${aboutText(catalogue, state.path)}`;
    problem.textContent = "";
  };
  area.addEventListener("input", () => {
    state.texts[state.path] = area.value;
    problem.textContent = wrongWith(area.value);
  });
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  const form = h(
    "form",
    {
      class: "panel",
      onsubmit: (event) => {
        event.preventDefault();
        transmit(state.path, area.value, send, answer);
      },
    },
    field(t("console.route"), chooser),
    about,
    area,
    problem,
    h("div", { class: "row" }, send, reset, curl, h("small", {}, t("console.keys"))),
  );
  draw();
  return h("div", {}, h("p", { class: "lead" }, t("console.lead")), h("div", { class: "console" }, form, answer));
}

const POSTS = /^v1\/(?!functions$|status$|batches$)/;
const READS = ["v1/functions", "v1/status", "v1/batches", "healthz", "readyz", "metrics", "openapi.json"];

function routes(catalogue, chosen, choose) {
  const group = (label, paths) =>
    h(
      "optgroup",
      { label },
      paths.map((path) => h("option", { value: path, selected: path === chosen }, path.replace(/^v1\//, ""))),
    );
  const control = h(
    "select",
    { onchange: () => choose(control.value) },
    group(
      t("console.functions"),
      catalogue.functions.map(({ name }) => `v1/${name}`),
    ),
    group(
      t("console.verifications"),
      catalogue.functions
        .filter(({ verifiability }) => verifiability !== "none")
        .map(({ name }) => `v1/verify/${name}`),
    ),
    group(
      t("console.gradients"),
      catalogue.functions.filter((entry) => entry.gradient_methods.length).map(({ name }) => `v1/vjp/${name}`),
    ),
    group(
      t("console.plans"),
      catalogue.functions.map(({ name }) => `v1/plan/${name}`),
    ),
    group(t("console.others"), ["v1/calls", ...READS]),
  );
  return control;
}

function aboutText(catalogue, path) {
  const entry = catalogue.functions.find(({ name }) => name === path.split("/").at(-1));
  return entry ? c(entry.summary) : t(`route.${path.replace("v1/", "")}`);
}

/** A small call that is answered as it stands. */
export function readyCall(catalogue, path) {
  if (path === "v1/calls") {
    const named = (name) => ({ function: name, ...readyCall(catalogue, `v1/${name}`) });
    return { calls: [named("inv_root"), named("msign")] };
  }
  const entry = catalogue.functions.find(({ name }) => name === path.split("/").at(-1));
  const call = { ...firstCall(entry) };
  call.sizes = Object.fromEntries(
    Object.keys(call.sizes).map((letter) => [letter, ["h", "hk"].includes(letter) ? 1 : SIZE]),
  );
  const made = (input, seed) => {
    const kind = input.symmetric ? "spectrum" : call.inputs[input.name].kind;
    const { shape, data } = generate(kind, shapeOf(input, call), SETTINGS, seed, input);
    return nested({ shape, data: data.map((value) => Number(value.toFixed(3))) });
  };
  const inputs = Object.fromEntries(
    entry.inputs.filter(({ optional }) => !optional).map((input, place) => [input.name, made(input, place + 1)]),
  );
  const params = Object.keys(call.params).length ? { params: call.params } : {};
  const output = (place) => entry.output_shapes[place].map((letter) => call.sizes[letter.split("|").at(-1)] ?? SIZE);
  const unit = (shape) =>
    nested({
      shape,
      data: Array.from({ length: shape.reduce((product, size) => product * size, 1) }, (_, at) =>
        Number(at % (shape.at(-1) + 1) === 0),
      ),
    });
  const outputs = Object.fromEntries(entry.outputs.map((name, place) => [name, unit(output(place))]));
  if (path.startsWith("v1/verify/")) return { inputs: { ...inputs, ...outputs }, ...params };
  if (path.startsWith("v1/vjp/")) return { inputs, cotangents: outputs, ...params };
  return { inputs, ...params };
}

/** JSON with each row of numbers on one line. */
function readyText(catalogue, path) {
  return JSON.stringify(readyCall(catalogue, path), null, 2).replace(
    /\[\s*(-?[\d.e+-]+(?:,\s*-?[\d.e+-]+)*)\s*\]/g,
    (_, row) => `[${row.replace(/\s+/g, " ")}]`,
  );
}

function wrongWith(text) {
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return t("console.not_json", { reason: error.message });
  }
}

/** The request as a line for a shell; the key stays a variable. */
function curlText(path, text) {
  const key = hasKey() ? ` -H "Authorization: Bearer $MATFN_API_KEY"` : "";
  const address = new URL(path, document.baseURI).href;
  if (!POSTS.test(path)) return `curl -s ${address}${key}`;
  let body = text;
  try {
    body = JSON.stringify(JSON.parse(text));
  } catch {
    // as it stands: the service says what is wrong with it
  }
  return `curl -s ${address}${key} -H 'Content-Type: application/json' -d '${body.replaceAll("'", "'\\''")}'`;
}

async function transmit(path, text, button, frame) {
  const isPost = POSTS.test(path);
  button.setAttribute("aria-busy", "true");
  try {
    const answer = await request(path, isPost ? { method: "POST", body: text } : {});
    showAnswer(frame, answer);
  } catch (error) {
    show(frame, problemCard(error));
  } finally {
    button.removeAttribute("aria-busy");
  }
}

function showAnswer(frame, { status, headers, text, milliseconds: spent, bytes: size }) {
  const pretty = indented(text);
  const shown = pretty.length > MOST_SHOWN ? `${pretty.slice(0, MOST_SHOWN)}\n…` : pretty;
  const named = ["content-type", "retry-after", "x-request-id"]
    .filter((name) => headers.get(name))
    .map((name) => `${name}: ${headers.get(name)}`);
  show(
    frame,
    h(
      "section",
      { class: "panel", role: "region", "aria-label": t("console.answer") },
      h(
        "p",
        { role: "status" },
        h("strong", { class: status < 400 ? "good" : "bad" }, `HTTP ${status}`),
        ` · ${milliseconds(spent)} · ${bytes(size)}`,
      ),
      h("p", { class: "muted" }, named.join(" · ")),
      decodedOutputs(text),
      h("pre", { tabindex: 0, "aria-label": t("console.answer") }, h("code", {}, shown)),
      h(
        "button",
        { type: "button", class: "quiet", onclick: () => save("answer.txt", text, "text/plain") },
        t("console.save"),
      ),
    ),
  );
}

/** The numbers of small outputs, which JSON carries as base64. */
function decodedOutputs(text) {
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    return null;
  }
  const tensors = Object.entries({ ...answer?.outputs, ...answer?.gradients }).filter(
    ([, tensor]) => tensor?.data !== undefined && count(tensor.shape) <= MOST_DECODED,
  );
  if (!tensors.length) return null;
  return h(
    "dl",
    { class: "decoded" },
    tensors.map(([name, tensor]) => [h("dt", {}, name), h("dd", {}, lines(decode(tensor), tensor.shape))]),
  );
}

function lines({ data }, shape) {
  const width = shape.at(-1) ?? 1;
  const rows = Array.from({ length: data.length / width }, (_, row) =>
    [...data.subarray(row * width, (row + 1) * width)].map((value) => number(value, 6).padStart(12)).join(" "),
  );
  return rows.join("\n");
}

function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
