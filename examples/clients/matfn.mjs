// A client of matfn with fetch alone, for browsers and Node 18 or newer.
//
//   const {x} = (await call("inv_root", {a: matrix([[4, 1], [1, 3]])}, {r: 4})).outputs;
//   node matfn.mjs inv_root a=A.csv r=4 > X.csv

/** A matrix from its rows, or a vector from its numbers. */
export function matrix(rows) {
  const shape = Array.isArray(rows[0]) ? [rows.length, rows[0].length] : [rows.length];
  return { shape, data: Float64Array.from(rows.flat()) };
}

/** The problem that the service answered a call with: `code`, `detail`, `hint`, `status`, `request_id`. */
export class Problem extends Error {
  constructor(problem) {
    super([`${problem.code}: ${problem.detail}`, problem.hint].filter(Boolean).join("; "));
    Object.assign(this, problem);
  }
}

/**
 * Calls a function of the service.
 *
 * @param {string} name of the function, such as "inv_root".
 * @param {Object<string, {shape: number[], data: Float64Array}>} inputs by name, row by row; a batch of N has the shape
 *   [N, rows, columns]. Nested lists of numbers do as well.
 * @param {Object} params of the function, such as {r: 4}.
 * @param {{url?: string, key?: string, options?: Object, tries?: number}} how and where; options are `tol`, `method` ...
 *   In Node MATFN_URL and MATFN_API_KEY say where unless url and key do.
 * @returns {Promise<{outputs: Object, certificates: Object[]}>} outputs as inputs are, a certificate for each matrix.
 * @throws {Problem} what the service refuses.
 */
export async function call(name, inputs, params = {}, { url = given("MATFN_URL") ?? "http://127.0.0.1:8000", key = given("MATFN_API_KEY"), options = {}, tries = 5 } = {}) {
  const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
  const body = JSON.stringify({ inputs: mapped(inputs, encoded), params, options });
  for (let left = tries; ; left--) {
    const response = await fetch(`${url}/v1/${name}`, { method: "POST", headers, body });
    const answer = await response.json();
    if (response.ok) return { ...answer, outputs: mapped(answer.outputs, decoded) };
    if (left <= 1 || answer.retry_after_ms === undefined) throw new Problem(answer);
    await new Promise((resolve) => setTimeout(resolve, answer.retry_after_ms)); // every call may be repeated
  }
}

const given = (name) => globalThis.process?.env?.[name];

const mapped = (object, change) => Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value)]));

function encoded(tensor) {
  if (Array.isArray(tensor) || typeof tensor === "number") return tensor; // the service takes these in JSON
  const { shape, data } = tensor;
  const view = new DataView(new ArrayBuffer(8 * data.length));
  data.forEach((number, i) => view.setFloat64(8 * i, number, true)); // little-endian on any machine
  let text = "";
  for (const octet of new Uint8Array(view.buffer)) text += String.fromCharCode(octet);
  return { dtype: "float64", shape, data: btoa(text) };
}

function decoded({ dtype, shape, data }) {
  if (dtype !== "float64") throw new TypeError(`the answer is ${dtype}; this client sends and reads float64`);
  const text = atob(data);
  const view = new DataView(Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer);
  return { shape, data: Float64Array.from({ length: text.length / 8 }, (_, i) => view.getFloat64(8 * i, true)) };
}

async function main([name, ...words]) {
  const { readFileSync } = await import("node:fs");
  const read = (path) => readFileSync(path, "utf8").trim().split("\n").map((line) => line.split(",").map(Number));
  const inputs = {};
  const params = {};
  for (const [word, value] of words.map((word) => word.split("="))) {
    if (value.endsWith(".csv")) inputs[word] = matrix(read(value).length > 1 ? read(value) : read(value)[0]);
    else params[word] = /^(true|false|[-+.\d].*)$/.test(value) ? JSON.parse(value) : value;
  }
  const { outputs, certificates } = await call(name, inputs, params);
  for (const [output, { shape, data }] of Object.entries(outputs)) {
    console.error(output, shape.join(" x "), certificates[0].outcome, certificates[0].error_estimate);
    const width = shape.at(-1) ?? 1;
    for (let i = 0; i < data.length; i += width) console.log([...data.slice(i, i + width)].join(","));
  }
}

if (globalThis.process?.argv[1] && import.meta.url === new URL(`file://${process.argv[1]}`).href) {
  main(process.argv.slice(2)).catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
