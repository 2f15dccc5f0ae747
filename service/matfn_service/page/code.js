// The same call in Python, curl and JavaScript.

import { hasKey } from "./service.js";
import { count, encode, nested } from "./tensors.js";

const INLINE = 40; // numbers that are still read at a glance

function address(path = "") {
  return new URL(path, document.baseURI).href.replace(/\/$/, "");
}

function isInline(tensors) {
  return Object.values(tensors).reduce((sum, { shape }) => sum + count(shape), 0) <= INLINE;
}

/** The body of the request. */
export function callOf({ tensors, dtype, params, options }) {
  const inputs = Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, encode(tensor, dtype)]));
  return {
    inputs,
    ...(Object.keys(params).length ? { params } : {}),
    ...(Object.keys(options).length ? { options } : {}),
  };
}

/** The three texts; `files` names what they read, where the matrices are too large to be written out. */
export function snippets(call, entry) {
  return { python: python(call, entry), curl: curl(call), javascript: javascript(call) };
}

function python({ name, tensors, dtype, params, options }, entry) {
  const inline = isInline(tensors);
  const made = Object.entries(tensors).map(
    ([input, tensor]) => `${input} = ${inline ? literal(tensor, dtype) : `np.load("${input}.npy")${asHalf(dtype)}`}`,
  );
  const positional = entry.inputs.filter((input) => !input.optional && tensors[input.name]).map((input) => input.name);
  const optional = entry.inputs
    .filter((input) => input.optional && tensors[input.name])
    .map((input) => `${input.name}=${input.name}`);
  const named = Object.entries({ ...params, ...options }).map(([key, value]) => `${key}=${pythonValue(value)}`);
  const further = entry.on_request.filter(({ parameter }) => params[parameter]).map((output) => output.name);
  const outputs = [...entry.outputs, ...further].join(", ");
  return [
    "import matfn",
    dtype === "bfloat16" ? "import ml_dtypes" : null,
    "import numpy as np",
    "",
    ...made,
    `with matfn.Client("${address()}") as client:${hasKey() ? "  # the key: api_key=, or MATFN_API_KEY" : ""}`,
    `    answer = client.with_info.${name}(${[...positional, ...optional, ...named].join(", ")})`,
    `${outputs} = answer.value`,
    "print(answer.certificates)",
  ]
    .filter((line) => line !== null)
    .join("\n");
}

function asHalf(dtype) {
  return dtype === "bfloat16" ? ".astype(ml_dtypes.bfloat16)" : "";
}

function literal(tensor, dtype) {
  const kind = dtype === "bfloat16" ? "ml_dtypes.bfloat16" : `np.${dtype}`;
  const lists = JSON.stringify(nested(tensor)).replaceAll("null", "np.nan").replaceAll(",", ", ");
  return `np.array(${lists}, dtype=${kind})`;
}

function pythonValue(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}

function curl(call) {
  const inline = isInline(call.tensors);
  const body = inline ? `'${JSON.stringify(callOf(call)).replaceAll("'", "'\\''")}'` : "@call.json";
  return [
    `curl -s ${address(`v1/${call.name}`)}`,
    hasKey() ? '  -H "Authorization: Bearer $MATFN_API_KEY"' : null,
    "  -H 'Content-Type: application/json'",
    `  -d ${body}`,
  ]
    .filter(Boolean)
    .join(" \\\n");
}

const ARRAYS = { float64: "Float64Array", float32: "Float32Array", float16: "Uint16Array", bfloat16: "Uint16Array" };

function javascript(call) {
  const inline = isInline(call.tensors);
  const key = hasKey() ? ", authorization: `Bearer ${key}`" : "";
  return [
    inline ? `const call = ${JSON.stringify(callOf(call))};` : `const call = await (await fetch("call.json")).json();`,
    `const response = await fetch("${address(`v1/${call.name}`)}", {`,
    '  method: "POST",',
    `  headers: { "content-type": "application/json"${key} },`,
    "  body: JSON.stringify(call),",
    "});",
    "const answer = await response.json();",
    "if (!response.ok) throw new Error(`${answer.code}: ${answer.detail}`);",
    "const octets = Uint8Array.from(atob(answer.outputs.x.data), (letter) => letter.charCodeAt(0));",
    `const x = new ${ARRAYS[call.dtype]}(octets.buffer); // answer.outputs.x.shape, row by row`,
    "console.log(answer.certificates, x);",
  ].join("\n");
}
