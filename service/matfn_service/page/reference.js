// What this page itself computes of a small answer, in float64: the function by definition, and residuals.
//
// A check that owes nothing to the service. Its own rounding is about float64's eps times the condition, and below that
// it cannot tell.

import { combined, eigh, filled, identity, norm, power, product, svd, transpose } from "./dense.js";
import { dplrMatrix, frechet, linear, sign, solved } from "./equations.js";
import { EPS } from "./tensors.js";

const MOST = 128;

/** The outputs of a call by definition, in float64; null where this page has no definition. */
export function definition({ name, inputs, params, dtype, certificate }) {
  const sizes = Object.values(inputs).flatMap((input) => input.shape);
  if (sizes.some((size) => size > MOST) || Object.values(inputs).some((input) => input.shape.length > 2)) return null;
  if (params.structure === "general" || params.damping === "range" || params.steps || params.coefficients) return null;
  return DEFINITIONS[name]?.({ ...inputs, params, dtype, certificate }) ?? null;
}

const DEFINITIONS = {
  root: ({ a, g, params, certificate }) => roots(a, g, certificate, params, [params.r, params.s ?? 1]),
  inv_root: ({ a, g, params, certificate }) => roots(a, g, certificate, params, [params.r, -(params.s ?? 1)]),
  sqrt_pair: ({ a, certificate, params }) => roots(a, null, certificate, params, [2, 1], [2, -1]),
  log: ({ a, params, certificate }) => [ofShifted(a, params, certificate, (w) => (w > 0 ? Math.log(w) : NaN))],
  exp: ({ a, params }) => [spectral(eigh(a), (w) => Math.exp((params.t ?? 1) * w))],
  power: ({ a, g, params, certificate }) => {
    const x = ofShifted(a, params, certificate, (w) => (Number.isInteger(params.p) ? w : Math.max(w, 0)) ** params.p);
    return [g ? product(g, x) : x];
  },
  eigh: ({ a }) => [vector(eigh(a).values.sort())],
  norm2: ({ m }) => interval(singular(m)[0]),
  cond: ({ m }) => interval(singular(m)[0] / singular(m).at(-1)),
  eig_clip: ({ a, params }) => [spectral(eigh(a), (w) => clipped(w, params.lo, params.hi))],
  geometric_mean: ({ a, b, params }) => [mean(a, b, params.t ?? 0.5)],
  msign: (call) => polarFactors(call, () => 1).slice(0, 1),
  mclip: (call) =>
    polarFactors(call, (value) =>
      clipped(value, call.params.lo ?? 0, call.params.hi === undefined ? 1 : call.params.hi),
    ).slice(0, 1),
  polar: (call) => polarFactors(call, () => 1),
  mcsgn: ({ a }) => [sign(a)],
  spectral_projector: ({ a, params }) => {
    const half = params.half === "left" ? -0.5 : 0.5;
    return [combined(0.5, identity(a.shape[0]), half, sign(a))];
  },
  solve_sylvester: ({ a, b, q }) => [
    linear(
      [
        [a, identity(b.shape[0])],
        [identity(a.shape[0]), b],
      ],
      q,
    ),
  ],
  solve_lyapunov: ({ a, q, e = identity(a.shape[0]) }) => [
    linear(
      [
        [a, transpose(e)],
        [e, transpose(a)],
      ],
      q,
    ),
  ],
  solve_discrete_lyapunov: ({ a, q, e = identity(a.shape[0]) }) => [
    linear(
      [
        [e, transpose(e)],
        [combined(-1, a, 0, a), transpose(a)],
      ],
      q,
    ),
  ],
  frechet_distance: ({ mu1, s1, mu2, s2 }) => [frechet(mu1, s1, mu2, s2)],
  dplr_inv: ({ diag, q, k }) => [solved(dplrMatrix(diag, q, k), identity(diag.shape[0]))],
  dplr_solve: ({ diag, q, k, b, params }) => {
    const matrix = dplrMatrix(diag, q, k);
    return [solved(params.transpose ? transpose(matrix) : matrix, b)];
  },
  tri_inv: ({ t, params }) => [substituted(t, identity(t.shape[0]), params)],
  tri_solve: ({ t, b, params }) => (params.transpose ? null : [substituted(t, b, params)]),
};

function spectral({ values, vectors }, f) {
  const n = values.length;
  const scaled = filled(n, n, (i, j) => vectors.data[i * n + j] * f(values[j]));
  return product(scaled, transpose(vectors));
}

/** The eigenvalues of the matrix that the certificate names, and its eigenvectors. */
function shiftedEigh(a, params, { shift }) {
  const { values, vectors } = eigh(a);
  const lifted = params.shift === undefined || params.shift === null ? values : values.map((w) => Math.max(w, 0));
  return { values: lifted.map((w) => w + (shift ?? 0)), vectors };
}

function ofShifted(a, params, certificate, f) {
  return spectral(shiftedEigh(a, params, certificate), f);
}

function roots(a, g, certificate, params, ...powers) {
  const found = shiftedEigh(a, params, certificate);
  const values = found.values.map((w) => Math.max(w, 0));
  if (powers.some(([, s]) => s < 0) && values.some((w) => w === 0)) return null;
  const answers = powers.map(([r, s]) => spectral({ values, vectors: found.vectors }, (w) => w ** (s / r)));
  return g ? answers.map((x) => product(g, x)) : answers;
}

function singular(m) {
  return svd(m.shape[0] < m.shape[1] ? transpose(m) : m)
    .values.sort()
    .reverse();
}

function vector(data) {
  return { shape: [data.length], data };
}

/** Both ends of an interval that holds a number, as near to it as they may be. */
function interval(value) {
  return [0, 1].map(() => ({ shape: [], data: Float64Array.of(value) }));
}

function mean(a, b, place) {
  const found = eigh(a);
  const half = spectral(found, (w) => Math.sqrt(Math.max(w, 0)));
  const inverse = spectral(found, (w) => 1 / Math.sqrt(w));
  const middle = eigh(product(product(inverse, b), inverse));
  return product(
    product(
      half,
      spectral(middle, (w) => Math.max(w, 0) ** place),
    ),
    half,
  );
}

function clipped(value, lo, hi) {
  return Math.min(Math.max(value, lo ?? -Infinity), hi ?? Infinity);
}

function polarFactors({ m, dtype, certificate }, f) {
  const wide = m.shape[0] < m.shape[1];
  const { u, values, v } = svd(wide ? transpose(m) : m);
  const least = 8 * Math.min(EPS[dtype], EPS.float32) * Math.max(...values);
  const kept = values.map((value) => (value > least ? f(value) : 0));
  if (certificate.rank !== null && values.filter((value) => value > least).length !== certificate.rank) return [null];
  const n = values.length;
  const scaled = filled(u.shape[0], n, (i, j) => u.data[i * n + j] * kept[j]);
  const factor = product(scaled, transpose(v));
  const right = wide ? u : v;
  const width = right.shape[0];
  const h = product(
    filled(width, n, (i, j) => right.data[i * n + j] * values[j]),
    transpose(right),
  );
  return [wide ? transpose(factor) : factor, h];
}

function substituted(t, b, { lower = true, unit_diagonal: unit = false }) {
  const [n, columns] = b.shape;
  const x = Float64Array.from(b.data);
  for (let step = 0; step < n; step += 1) {
    const i = lower ? step : n - 1 - step;
    for (let k = lower ? 0 : i + 1; k < (lower ? i : n); k += 1)
      for (let j = 0; j < columns; j += 1) x[i * columns + j] -= t.data[i * n + k] * x[k * columns + j];
    if (!unit) for (let j = 0; j < columns; j += 1) x[i * columns + j] /= t.data[i * n + i];
  }
  return { shape: [n, columns], data: x };
}

/** The largest relative distance of the outputs from the definition, in the Frobenius norm; of vectors in the largest. */
export function distance(outputs, expected) {
  if (!expected || expected.some((x) => !x?.data.every(Number.isFinite))) return null;
  return Math.max(
    ...expected.map((x, place) => {
      const size = x.shape.length === 1 ? largest : norm;
      return size(combined(1, outputs[place], -1, x)) / (size(x) || 1);
    }),
  );
}

function largest({ data }) {
  return data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

/** The residual of an answer: its name and relative size; null where there is none to compute. */
export function residual({ name, inputs, params, certificate, outputs }) {
  const sizes = Object.values(inputs).flatMap((input) => input.shape);
  if (sizes.some((size) => size > 256) || inputs.g || params.structure === "general" || params.damping === "range")
    return null;
  return RESIDUALS[name]?.({ ...inputs, params, certificate, outputs }) ?? null;
}

const RESIDUALS = {
  root: ({ a, params: { r, s = 1, shift: own }, certificate: { shift }, outputs: [x] }) =>
    own ? null : related(`X^${r} − A${s > 1 ? `^${s}` : ""}`, power(x, r), power(shifted(a, shift), s)),
  inv_root: ({ a, params: { r, s = 1, shift: own }, certificate: { shift }, outputs: [x] }) =>
    own
      ? null
      : related(
          `X^${r} A${s > 1 ? `^${s}` : ""} − I`,
          product(power(x, r), power(shifted(a, shift), s)),
          identity(a.shape[0]),
        ),
  sqrt_pair: ({ outputs: [x, y] }) => related("X Y − I", product(x, y), identity(x.shape[0])),
  mcsgn: ({ outputs: [x] }) => related("X^2 − I", product(x, x), identity(x.shape[0])),
  spectral_projector: ({ outputs: [x] }) => related("X^2 − X", product(x, x), x),
  polar: ({ m, outputs: [u, p] }) => related("U H − M", product(u, p), m),
  tri_inv: ({ t, params, outputs: [x] }) =>
    params.unit_diagonal ? null : related("T X − I", product(triangle(t, params), x), identity(t.shape[0])),
  solve_sylvester: ({ a, b, q, outputs: [x] }) =>
    related("A X + X B − Q", combined(1, product(a, x), 1, product(x, b)), q),
  solve_lyapunov: ({ a, q, e, outputs: [x] }) =>
    e
      ? related("A X Eᵀ + E X Aᵀ − Q", combined(1, product3(a, x, transpose(e)), 1, product3(e, x, transpose(a))), q)
      : related("A X + X Aᵀ − Q", combined(1, product(a, x), 1, product(x, transpose(a))), q),
  solve_discrete_lyapunov: ({ a, q, e, outputs: [x] }) =>
    related(
      e ? "E X Eᵀ − A X Aᵀ − Q" : "X − A X Aᵀ − Q",
      combined(1, e ? product3(e, x, transpose(e)) : x, -1, product3(a, x, transpose(a))),
      q,
    ),
  solve_care: ({ a, b, q, r, e, s, outputs: [x] }) => {
    const [xa, xb] = [product(x, a), product(x, b)];
    const left = combined(1, combined(1, transpose(xa), 1, xa), 1, q);
    return e || s ? null : related("Aᵀ X + X A − X B R⁻¹ Bᵀ X + Q", left, weighted(xb, r));
  },
  solve_dare: ({ a, b, q, r, e, s, outputs: [x] }) => {
    const [at, bt] = [transpose(a), transpose(b)];
    const feedback = weighted(product3(at, x, b), combined(1, r, 1, product3(bt, x, b)));
    const left = combined(1, combined(1, product3(at, x, a), -1, x), 1, q);
    return e || s ? null : related("Aᵀ X A − X − Aᵀ X B (R + Bᵀ X B)⁻¹ Bᵀ X A + Q", left, feedback);
  },
  eigh: ({ a, outputs: [w, v] }) => related("A V − V diag(w)", product(v, diagonal(w)), product(a, v)),
  eigenbasis: ({ a, outputs: [q, w] }) => related("A Q − Q diag(w)", product(q, diagonal(w)), product(a, q)),
};

function product3(a, b, c) {
  return product(product(a, b), c);
}

/** C R^-1 C^T for a symmetric R. */
function weighted(c, r) {
  return product3(
    c,
    spectral(eigh(r), (w) => 1 / w),
    transpose(c),
  );
}

function diagonal({ data }) {
  return filled(data.length, data.length, (i, j) => (i === j ? data[i] : 0));
}

function shifted(a, shift) {
  return shift ? combined(1, a, shift, identity(a.shape[0])) : a;
}

function triangle(t, { lower = true }) {
  const n = t.shape[0];
  return filled(n, n, (i, j) => ((lower ? j <= i : j >= i) ? t.data[i * n + j] : 0));
}

function related(name, left, right) {
  return { name, value: norm(combined(1, left, -1, right)) / (norm(right) || 1) };
}
