// Matrices to try things on, made from a seed: a spectrum that one chooses, and a small gallery.

import { combined, filled, product, transpose } from "./dense.js";
import { Unreadable } from "./read.js";
import { real, realOrder } from "./real.js";
import { count } from "./tensors.js";

const REFLECTIONS = 12; // so many random reflections leave no structure that a heat map would show

/** Uniform numbers in [0, 1) from a seed, by xorshift (Marsaglia, Journal of Statistical Software 8, 2003). */
function uniform(seed) {
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  for (let time = 0; time < 16; time += 1) next(); // neighbouring seeds begin alike
  return next;
}

/** Normal numbers from a seed, by Box and Muller. */
export function normal(seed) {
  const next = uniform(seed);
  return () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

function gaussian(rows, columns, seed, scale = 1) {
  const next = normal(seed);
  return filled(rows, columns, () => scale * next());
}

/** Reflects the rows of a matrix in random hyperplanes: Q M for an orthogonal Q of the seed. */
function reflected(matrix, seed) {
  const [rows, columns] = matrix.shape;
  const next = normal(seed);
  const data = Float64Array.from(matrix.data);
  for (let time = 0; time < Math.min(REFLECTIONS, rows); time += 1) {
    const v = Float64Array.from({ length: rows }, next);
    const square = v.reduce((sum, value) => sum + value * value, 0);
    const dots = new Float64Array(columns);
    for (let i = 0; i < rows; i += 1) for (let j = 0; j < columns; j += 1) dots[j] += v[i] * data[i * columns + j];
    for (let i = 0; i < rows; i += 1)
      for (let j = 0; j < columns; j += 1) data[i * columns + j] -= (2 * v[i] * dots[j]) / square;
  }
  return { shape: [rows, columns], data };
}

/** Values from 1 down to 1 / condition, by the name of their decay. */
export function decaying(decay, n, condition) {
  const least = 1 / condition;
  const place = (i) => (n === 1 ? 0 : i / (n - 1));
  const shapes = {
    geometric: (i) => least ** place(i),
    linear: (i) => 1 - (1 - least) * place(i),
    one_small: (i) => (i === n - 1 ? least : 1 - 0.5 * place(i)),
    one_large: (i) => (i === 0 ? 1 : least * (2 - place(i))),
    clusters: (i) => least ** (Math.floor(3 * Math.min(place(i), 0.999)) / 2),
    power_law: (i) => Math.max(least, (i + 1) ** -1.5),
  };
  return Float64Array.from({ length: n }, (_, i) => shapes[decay](i));
}

function withSpectrum(rows, columns, values, symmetric, seed) {
  const middle = filled(rows, columns, (i, j) => (i === j ? values[i] : 0));
  const left = reflected(middle, seed);
  const both = transpose(reflected(transpose(left), symmetric ? seed : seed + 1));
  return symmetric ? combined(0.5, both, 0.5, transpose(both)) : both;
}

function rotation(n, degrees, seed) {
  const angle = (degrees * Math.PI) / 180;
  const blocks = filled(n, n, (i, j) => {
    if (i === n - 1 && n % 2) return Number(i === j);
    if (i >> 1 !== j >> 1) return 0;
    return i === j ? Math.cos(angle) : (i < j ? -1 : 1) * Math.sin(angle);
  });
  return transpose(reflected(transpose(reflected(blocks, seed)), seed));
}

function covariance(n, rank, seed) {
  const features = gaussian(rank, n, seed, 1 / Math.sqrt(rank));
  return product(transpose(features), features);
}

/** A matrix of the gallery: an entry at (i, j), from 1, of order n. */
function named(suits, entry) {
  return {
    group: "gallery",
    suits,
    sliders: () => [],
    make: ([rows, columns]) => filled(rows, columns, (i, j) => entry(i + 1, j + 1, columns)),
  };
}

/** A real matrix, up to the order that there is. */
function given(name, suits) {
  const make = ([rows, columns]) => {
    if (Math.max(rows, columns) > realOrder()) throw new Unreadable("read.real", { order: realOrder() });
    return real(name, rows, columns);
  };
  return { group: "real", suits, sliders: () => [], make };
}

const isSymmetric = (input) => Boolean(input.symmetric);
const isMatrix = (input) => input.shape.length === 2 && !input.triangular;
const isPlainSquare = (input) => isSquare(input) && !input.symmetric && !input.triangular;

function binomial(n, k) {
  let value = 1;
  for (let i = 0; i < k; i += 1) value = (value * (n - i)) / (i + 1);
  return value;
}

const CONDITION = { name: "condition", min: 0, max: 16, step: 0.5, value: 4, told: (value) => `1e${value}` };

/** The kinds of matrices: which inputs they suit, their sliders and how they are made. */
export const KINDS = {
  spectrum: {
    suits: (input) => input.shape.length === 2 && !input.triangular,
    sliders: () => [CONDITION],
    decays: ["geometric", "linear", "one_small", "one_large", "clusters", "power_law"],
    make: ([rows, columns], { decay = "geometric", condition = 4 }, seed, input) =>
      withSpectrum(rows, columns, decaying(decay, Math.min(rows, columns), 10 ** condition), input.symmetric, seed),
  },
  covariance: {
    suits: (input) => input.symmetric,
    sliders: ([n]) => [{ name: "rank", min: 1, max: n, step: 1, value: Math.ceil(n / 2) }],
    make: ([n], { rank = Math.ceil(n / 2) }, seed) => covariance(n, Math.min(rank, n), seed),
  },
  wigner: {
    suits: (input) => input.symmetric,
    sliders: () => [],
    make: ([n], _, seed) => {
      const g = gaussian(n, n, seed, 1 / Math.sqrt(2 * n));
      return combined(1, g, 1, transpose(g));
    },
  },
  gaussian: {
    suits: (input) => !input.symmetric && !input.triangular,
    sliders: () => [],
    make: (shape, _, seed, input) => {
      const next = normal(seed);
      const scale = shape.length > 1 ? 1 / Math.sqrt(shape.at(-1)) : 1;
      const draw = () =>
        input.nonpositive ? -0.1 * Math.abs(next()) : input.nonzero ? 1 + Math.abs(next()) : scale * next();
      return { shape, data: Float64Array.from({ length: count(shape) }, draw) };
    },
  },
  uniform: {
    suits: (input) => input.shape.length === 1 && !input.nonpositive,
    sliders: () => [],
    make: (shape, _, seed) => {
      const next = uniform(seed);
      return { shape, data: Float64Array.from({ length: count(shape) }, next) };
    },
  },
  rotation: {
    suits: (input) => isSquare(input) && !input.symmetric && !input.triangular,
    sliders: () => [{ name: "angle", min: 0, max: 180, step: 1, value: 60, told: (value) => `${value}°` }],
    make: ([n], { angle = 60 }, seed) => rotation(n, angle, seed),
  },
  triangular: {
    suits: (input) => input.triangular,
    sliders: () => [{ name: "coupling", min: 0, max: 2, step: 0.1, value: 0.5 }],
    make: ([n], { coupling = 0.5 }, seed) => {
      const next = normal(seed);
      return filled(n, n, (i, j) => (i === j ? 1 + Math.abs(next()) : i > j ? (coupling * next()) / Math.sqrt(n) : 0));
    },
  },
  hilbert: named(isMatrix, (i, j) => 1 / (i + j - 1)),
  laplacian: named(
    (input) => isSquare(input) && !input.triangular,
    (i, j) => (i === j ? 2 : Math.abs(i - j) === 1 ? -1 : 0),
  ),
  lehmer: named(isSymmetric, (i, j) => Math.min(i, j) / Math.max(i, j)),
  minij: named(isSymmetric, Math.min),
  moler: named(isSymmetric, (i, j) => (i === j ? i : Math.min(i, j) - 2)),
  pascal: named(isSymmetric, (i, j) => binomial(i + j - 2, Math.min(i, j) - 1)),
  kms: named(isSymmetric, (i, j) => 0.9 ** Math.abs(i - j)),
  prolate: named(isSymmetric, (i, j) => (i === j ? 0.5 : Math.sin((Math.PI * (i - j)) / 2) / (Math.PI * (i - j)))),
  wilkinson: named(isSymmetric, (i, j, n) => (i === j ? Math.abs((n + 1) / 2 - i) : Number(Math.abs(i - j) === 1))),
  frank: named(isPlainSquare, (i, j, n) => (j >= i - 1 ? n + 1 - Math.max(i, j) : 0)),
  grcar: named(isPlainSquare, (i, j) => (i === j + 1 ? -1 : Number(j >= i && j <= i + 3))),
  kahan: named(
    (input) => isMatrix(input) && !input.symmetric && !input.orthonormal,
    (i, j) => (j < i ? 0 : Math.sin(1.2) ** (i - 1) * (i === j ? 1 : -Math.cos(1.2))),
  ),
  shampoo: given("shampoo", isSymmetric),
  digits: given("digits", isSymmetric),
  fid: given("fid", isSymmetric),
  momentum: given("momentum", (input) => isMatrix(input) && !input.symmetric),
  deltanet: given("deltanet", (input) => Boolean(input.triangular)),
};

/** Whether drawing again gives another matrix. */
export function isRandom(kind) {
  return !KINDS[kind].group;
}

function isSquare(input) {
  return input.shape.length === 2 && input.shape[0] === input.shape[1];
}

/** The kinds that suit an input, as groups of a list: made to measure, the gallery, real ones. */
export function kindGroups(input) {
  const kinds = kindsFor(input);
  return ["made", "gallery", "real"]
    .map((group) => [group, kinds.filter((kind) => (KINDS[kind].group ?? "made") === group)])
    .filter(([, members]) => members.length);
}

/** The kinds that suit an input. */
export function kindsFor(input) {
  return Object.keys(KINDS).filter((kind) => (!input.orthonormal || kind === "rotation") && KINDS[kind].suits(input));
}

/** The matrix of a kind, for an input of the catalogue. */
export function generate(kind, shape, settings, seed, input) {
  return KINDS[kind].make(shape, settings, seed, input);
}
