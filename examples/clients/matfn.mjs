// A client of matfn with fetch alone, for browsers and Node 18 or newer.
//
//   const {x} = (await call("inv_root", {a: matrix([[4, 1], [1, 3]])}, {r: 4})).outputs;
//   node matfn.mjs inv_root a=A.csv r=4 --tol=1e-10 > X.csv

/** A matrix from its rows, a vector from its numbers, a batch from its matrices; `where` is what errors call it. */
export function matrix(rows, where = "matrix") {
  const isList = (value) => Array.isArray(value) || (ArrayBuffer.isView(value) && "length" in value);
  const shape = [];
  for (let list = rows; isList(list); list = list[0]) shape.push(list.length);
  const title = (level) => ["row", "column"][level + 2 - shape.length] ?? "matrix";
  const wrong = (place, words) => new TypeError(`${[where, ...place.map((i, level) => `${title(level)} ${i + 1}`)].join(", ")}: ${words}`);
  const data = [];
  const add = (value, place) => {
    const length = shape[place.length];
    if (isList(value) && value.length === length) for (let i = 0; i < length; i++) add(value[i], [...place, i]);
    else if (isList(value)) throw wrong(place, `${value.length} entries, and ${length ?? "a number"} before`);
    else if (length !== undefined) throw wrong(place, `${JSON.stringify(value)} is not a list`);
    else if (typeof value !== "number") throw wrong(place, `${JSON.stringify(value)} is not a number`);
    else data.push(value);
  };
  add(rows, []);
  return { shape, data: Float64Array.from(data) };
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
 *   [N, rows, columns]. Nested lists of numbers do as well, of any depth.
 * @param {Object} params of the function, such as {r: 4}.
 * @param {{url?: string, key?: string, options?: Object, tries?: number}} how and where; options are `tol`, `method` ...
 *   In Node MATFN_URL and MATFN_API_KEY say where unless url and key do.
 * @returns {Promise<{outputs: Object, certificates: Object[]}>} outputs as inputs are, a certificate for each matrix.
 * @throws {Problem} what the service refuses, and with the code "unreachable" a server that does not answer.
 * @throws {TypeError} what is not a number, and lists of different lengths.
 */
export async function call(name, inputs, params = {}, { url = given("MATFN_URL") || "http://127.0.0.1:8000", key = given("MATFN_API_KEY"), options = {}, tries = 5 } = {}) {
  const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
  const body = JSON.stringify({ inputs: mapped(inputs, encoded), params, options }, finite);
  const address = `${url.replace(/\/+$/, "")}/v1/${name}`;
  const unreachable = (detail) => new Problem({ code: "unreachable", detail: `${address}: ${detail}`, hint: "does the server run there?" });
  for (let left = tries; ; left--) {
    const response = await fetch(address, { method: "POST", headers, body }).catch(({ cause, message }) => {
      throw unreachable(cause?.message || cause?.code || message);
    });
    const answer = await response.json().catch(() => {
      throw unreachable(`status ${response.status}, without JSON`);
    });
    if (response.ok) return { ...answer, outputs: mapped(answer.outputs, decoded) };
    if (left <= 1 || answer.retry_after_ms == null) throw new Problem(answer);
    await new Promise((resolve) => setTimeout(resolve, answer.retry_after_ms)); // every call may be repeated
  }
}

const given = (name) => globalThis.process?.env?.[name];

const mapped = (object, change) => Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value, name)]));

function finite(name, value) { // JSON.stringify makes null of the others, which means the default
  if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`${name}: ${value} is not a finite number`);
  return value;
}

function encoded(value, name) {
  const shape = value?.shape;
  const { shape: own, data } = matrix(shape ? value.data : value, name);
  const view = new DataView(new ArrayBuffer(8 * data.length));
  data.forEach((number, i) => view.setFloat64(8 * i, number, true)); // little-endian on any machine
  let text = "";
  for (const octet of new Uint8Array(view.buffer)) text += String.fromCharCode(octet);
  return { dtype: "float64", shape: shape ?? own, data: btoa(text) };
}

function decoded({ dtype, shape, data }) {
  if (dtype !== "float64") throw new TypeError(`the answer is ${dtype}; this client sends and reads float64`);
  const text = atob(data);
  const view = new DataView(Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer);
  return { shape, data: Float64Array.from({ length: text.length / 8 }, (_, i) => view.getFloat64(8 * i, true)) };
}

const USAGE = "usage: node matfn.mjs FUNCTION INPUT=FILE.csv ... PARAMETER=VALUE ... --OPTION=VALUE ..., such as inv_root a=A.csv r=4 --tol=1e-10";

// One line is a vector, but a single number a matrix; A.csv@2x3x3 states the shape, here of two matrices.
async function read(path, shape) {
  const { readFileSync } = await import("node:fs");
  const cell = (text) => (text.trim() === "" || Number.isNaN(Number(text)) ? text.trim() : Number(text));
  const tensor = matrix(readFileSync(path, "utf8").trimEnd().split("\n").map((line) => line.split(",").map(cell)), path);
  if (shape === undefined) return tensor.shape[0] > 1 || tensor.shape[1] === 1 ? tensor : { ...tensor, shape: tensor.shape.slice(1) };
  return { ...tensor, shape: shape.split("x").map(Number) };
}

async function main([name, ...words]) {
  if (name === undefined || name.includes("=")) throw new Error(USAGE);
  const inputs = {};
  const params = {};
  const options = {};
  for (const word of words) {
    const [, dashes, key, value] = /^(--)?([^=]+)=(.+)$/.exec(word) ?? [];
    if (key === undefined) throw new Error(`'${word}' is not NAME=VALUE; ${USAGE}`);
    const [, path, shape] = /^(.+\.csv)(?:@(\d+(?:x\d+)*))?$/.exec(value) ?? [];
    if (path && !dashes) inputs[key] = await read(path, shape);
    else (dashes ? options : params)[key] = /^(true|false)$/.test(value) ? value === "true" : Number.isNaN(Number(value)) ? value : Number(value);
  }
  const { outputs, certificates } = await call(name, inputs, params, { options });
  const told = certificates.map(({ outcome, error_estimate }) => `${outcome} ${error_estimate}`).join("; ");
  for (const [output, { shape, data }] of Object.entries(outputs)) {
    console.error(output, shape.join(" x "), told);
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
