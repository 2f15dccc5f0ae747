// Tensors: on the wire little-endian octets in C order, in base64; in this page { shape, data: Float64Array }.

/** Machine epsilon of each dtype that this page sends. */
export const EPS = { float64: 2 ** -52, float32: 2 ** -23, float16: 2 ** -10, bfloat16: 2 ** -7 };

const scratch = new DataView(new ArrayBuffer(8));

function bitsOf(value) {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}

function ofBits(bits) {
  scratch.setUint32(0, bits);
  return scratch.getFloat32(0);
}

function toBfloat16(value) {
  const bits = bitsOf(value);
  if (Number.isNaN(value)) return 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff; // to nearest, ties to even
}

function toFloat16(value) {
  const sign = (bitsOf(value) >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | even(size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size)) - (2 ** Math.floor(Math.log2(size)) > size ? 1 : 0);
  return sign | (((exponent + 15) << 10) + even((size / 2 ** exponent - 1) * 1024));
}

/** The nearest integer, the even one of two. */
function even(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
}

function fromFloat16(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const DTYPES = {
  float64: {
    size: 8,
    put: (view, at, value) => view.setFloat64(at, value, true),
    get: (view, at) => view.getFloat64(at, true),
  },
  float32: {
    size: 4,
    put: (view, at, value) => view.setFloat32(at, value, true),
    get: (view, at) => view.getFloat32(at, true),
  },
  float16: {
    size: 2,
    put: (view, at, value) => view.setUint16(at, toFloat16(value), true),
    get: (view, at) => fromFloat16(view.getUint16(at, true)),
  },
  bfloat16: {
    size: 2,
    put: (view, at, value) => view.setUint16(at, toBfloat16(Math.fround(value)), true),
    get: (view, at) => ofBits(view.getUint16(at, true) << 16),
  },
};

/** Number of entries of a shape. */
export function count(shape) {
  return shape.reduce((product, length) => product * length, 1);
}

/** The octets of numbers in a dtype. */
export function octets(data, dtype) {
  const { size, put } = DTYPES[dtype];
  const view = new DataView(new ArrayBuffer(data.length * size));
  for (let place = 0; place < data.length; place += 1) put(view, place * size, data[place]);
  return new Uint8Array(view.buffer);
}

/** The numbers of octets in a dtype. */
export function numbers(content, dtype, bigEndian = false) {
  const { size, get } = DTYPES[dtype];
  const whole = bigEndian ? swapped(content, size) : content;
  const view = new DataView(whole.buffer, whole.byteOffset, whole.byteLength);
  return Float64Array.from({ length: Math.floor(whole.byteLength / size) }, (_, place) => get(view, place * size));
}

function swapped(content, size) {
  return content.map((_, place) => content[place - (place % size) + size - 1 - (place % size)]);
}

/** What is left of numbers in a dtype. */
export function rounded(data, dtype) {
  if (dtype === "float64") return data;
  return dtype === "float32" ? Float64Array.from(new Float32Array(data)) : numbers(octets(data, dtype), dtype);
}

/** A tensor for a request in JSON. */
export function encode({ shape, data }, dtype) {
  const content = octets(data, dtype);
  let text = "";
  for (let at = 0; at < content.length; at += 32768) text += String.fromCharCode(...content.subarray(at, at + 32768));
  return { dtype, shape, data: btoa(text) };
}

/** A tensor of an answer in JSON; of complex numbers the real parts are kept. */
export function decode({ dtype, shape, data }) {
  const content = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  if (!dtype.startsWith("complex")) return { shape, data: numbers(content, dtype) };
  const both = numbers(content, dtype === "complex64" ? "float32" : "float64");
  return { shape, data: both.filter((_, place) => place % 2 === 0) };
}

/** The nested lists of a tensor. */
export function nested({ shape, data }) {
  const build = (depth, at, length) => {
    if (depth === shape.length) return data[at];
    const each = length / shape[depth];
    return Array.from({ length: shape[depth] }, (_, place) => build(depth + 1, at + place * each, each));
  };
  return build(0, 0, count(shape));
}

/** A tensor as a file of numpy, version 1.0; bfloat16, which numpy has not, as float32. */
export function npy({ shape, data }, dtype) {
  const kept = dtype === "bfloat16" ? "float32" : dtype;
  const descr = { float64: "<f8", float32: "<f4", float16: "<f2" }[kept];
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const head = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${sizes}), }`;
  const padded = `${head.padEnd(Math.ceil((head.length + 11) / 64) * 64 - 11)}\n`;
  const start = [
    0x93,
    ...[..."NUMPY"].map((letter) => letter.charCodeAt(0)),
    1,
    0,
    padded.length & 255,
    padded.length >> 8,
  ];
  const text = [...padded].map((letter) => letter.charCodeAt(0));
  const content = octets(rounded(data, dtype), kept);
  const file = new Uint8Array(start.length + text.length + content.length);
  file.set([...start, ...text]);
  file.set(content, start.length + text.length);
  return file;
}
