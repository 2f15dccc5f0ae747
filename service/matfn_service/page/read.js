// Matrices from text and files: CSV, whitespace, JSON, numpy's .npy and Matrix Market's .mtx.

import { count, numbers } from "./tensors.js";

/** Why a text or file is no matrix: a name in the dictionaries, with its values. */
export class Unreadable extends Error {
  constructor(name, values = {}) {
    super(name);
    this.word = name;
    this.values = values;
  }
}

const MOST = 2 ** 24;

/** The tensor of a text: JSON if it begins with a bracket, else rows of numbers. */
export function parseText(text) {
  const trimmed = text.trim();
  if (!trimmed) throw new Unreadable("read.empty");
  if (trimmed.startsWith("%%MatrixMarket")) return parseMarket(trimmed);
  return trimmed.startsWith("[") || trimmed.startsWith("{") ? parseJson(trimmed) : parseRows(trimmed);
}

function parseJson(text) {
  let tree;
  try {
    tree = JSON.parse(text.replace(/\bNaN\b|-?\bInfinity\b/g, "null"));
  } catch (error) {
    throw new Unreadable("read.json", { reason: error.message });
  }
  if (!Array.isArray(tree)) throw new Unreadable("read.list");
  const shape = [];
  for (let level = tree; Array.isArray(level); level = level[0]) shape.push(level.length);
  const data = new Float64Array(sized(shape));
  let at = 0;
  const walk = (level, depth) => {
    if (depth === shape.length) {
      if (Array.isArray(level)) throw new Unreadable("read.ragged");
      data[at] = level === null ? NaN : Number(level);
      at += 1;
      return;
    }
    if (!Array.isArray(level) || level.length !== shape[depth]) throw new Unreadable("read.ragged");
    for (const next of level) walk(next, depth + 1);
  };
  walk(tree, 0);
  return { shape, data };
}

function parseRows(text) {
  const lines = text
    .split(/[\n;]/)
    .map((line) => line.replace(/#.*/, "").trim())
    .filter(Boolean);
  const rows = lines.map((line, number) =>
    line
      .split(/[\s,]+/)
      .filter(Boolean)
      .map((word) => parseNumber(word, number + 1)),
  );
  if (!rows.length) throw new Unreadable("read.empty");
  const width = rows[0].length;
  const odd = rows.findIndex((row) => row.length !== width);
  if (odd >= 0) throw new Unreadable("read.width", { line: odd + 1, found: rows[odd].length, width });
  return { shape: [rows.length, width], data: Float64Array.from(rows.flat()) };
}

function parseNumber(word, line) {
  const value = /^[-+]?(nan|null)$/i.test(word)
    ? NaN
    : /^([-+]?)inf(inity)?$/i.test(word)
      ? (word[0] === "-" ? -1 : 1) * Infinity
      : Number(word);
  if (Number.isNaN(value) && !/nan|null/i.test(word))
    throw new Unreadable("read.word", { word: word.slice(0, 20), line });
  return value;
}

function sized(shape) {
  const size = count(shape);
  if (!(size > 0)) throw new Unreadable("read.empty");
  if (size > MOST) throw new Unreadable("read.large", { shape: shape.join(" × ") });
  return size;
}

/** The tensor of a file, by its content and the end of its name. */
export async function parseFile(file) {
  if (file.size > 2 ** 28) throw new Unreadable("read.large", { shape: `${file.size} B` });
  const content = new Uint8Array(await file.arrayBuffer());
  return content[0] === 0x93 ? parseNpy(content) : parseText(new TextDecoder().decode(content));
}

const KINDS = { f8: "float64", f4: "float32", f2: "float16" };

/** The tensor of a .npy file of floats or integers. */
export function parseNpy(content) {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const start = content[6] === 1 ? 10 : 12;
  const length = content[6] === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const head = new TextDecoder("latin1").decode(content.subarray(start, start + length));
  const descr = /'descr':\s*'([<>|=]?)(\w+)'/.exec(head);
  const sizes = /'shape':\s*\(([^)]*)\)/.exec(head);
  if (!descr || !sizes) throw new Unreadable("read.npy");
  const shape = sizes[1]
    .split(",")
    .map((word) => word.trim())
    .filter(Boolean)
    .map(Number);
  sized(shape);
  const body = content.slice(start + length);
  const data = valuesOf(descr[2], body, descr[1] === ">");
  if (data.length < count(shape)) throw new Unreadable("read.npy");
  const found = { shape, data: data.subarray(0, count(shape)) };
  return /'fortran_order':\s*True/.test(head) ? fromColumns(found) : found;
}

function valuesOf(kind, body, bigEndian) {
  if (KINDS[kind]) return numbers(body, KINDS[kind], bigEndian);
  if (bigEndian || !/^[iu][1248]$/.test(kind)) throw new Unreadable("read.dtype", { dtype: kind });
  const types = {
    i1: Int8Array,
    i2: Int16Array,
    i4: Int32Array,
    i8: BigInt64Array,
    u1: Uint8Array,
    u2: Uint16Array,
    u4: Uint32Array,
    u8: BigUint64Array,
  };
  const width = Number(kind[1]);
  return Float64Array.from(new types[kind](body.buffer, 0, Math.floor(body.byteLength / width)), Number);
}

function fromColumns({ shape, data }) {
  const turned = new Float64Array(data.length);
  const strides = [];
  shape.reduce((stride, length, axis) => ((strides[axis] = stride), stride * length), 1);
  for (let place = 0; place < data.length; place += 1) {
    let rest = place;
    let from = 0;
    for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
      from += (rest % shape[axis]) * strides[axis];
      rest = Math.floor(rest / shape[axis]);
    }
    turned[place] = data[from];
  }
  return { shape, data: turned };
}

/** The tensor of a Matrix Market file: coordinate or array; real, integer or pattern; general, symmetric or skew. */
export function parseMarket(text) {
  const lines = text.split("\n");
  const [, , format, kind, symmetry] = lines[0].toLowerCase().trim().split(/\s+/);
  if (!["coordinate", "array"].includes(format) || kind === "complex" || symmetry === "hermitian")
    throw new Unreadable("read.market", { head: lines[0].trim() });
  const words = lines
    .slice(1)
    .filter((line) => line.trim() && !line.startsWith("%"))
    .join(" ")
    .trim()
    .split(/\s+/)
    .map(Number);
  const [rows, columns] = words;
  const data = new Float64Array(sized([rows, columns]));
  const sign = symmetry === "skew-symmetric" ? -1 : 1;
  const put = (i, j, value) => {
    if (!(i >= 0 && i < rows && j >= 0 && j < columns)) throw new Unreadable("read.market", { head: lines[0].trim() });
    data[i * columns + j] = value;
    if (symmetry !== "general" && i !== j) data[j * columns + i] = sign * value;
  };
  if (format === "array") putColumns(words.slice(2), rows, columns, symmetry, put);
  else putEntries(words.slice(3), words[2], kind === "pattern", put);
  return { shape: [rows, columns], data };
}

function putColumns(values, rows, columns, symmetry, put) {
  let at = 0;
  for (let j = 0; j < columns; j += 1)
    for (let i = symmetry === "general" ? 0 : symmetry === "symmetric" ? j : j + 1; i < rows; i += 1)
      put(i, j, values[at++]);
}

function putEntries(values, entries, pattern, put) {
  const width = pattern ? 2 : 3;
  for (let entry = 0; entry < entries; entry += 1) {
    const at = entry * width;
    put(values[at] - 1, values[at + 1] - 1, pattern ? 1 : values[at + 2]);
  }
}
