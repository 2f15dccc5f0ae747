// Linear equations and the matrix sign in float64, for the page's own check of small answers.

import { combined, eigh, filled, identity, norm, product, transpose } from "./dense.js";

const MOST_UNKNOWNS = 1024;
const MOST_STEPS = 100;

/** X of A X = B, by elimination with pivots. */
export function solved(a, b) {
  const n = a.shape[0];
  const columns = b.shape[1];
  const m = Float64Array.from(a.data);
  const x = Float64Array.from(b.data);
  const swap = (data, width, i, j) => {
    for (let k = 0; k < width; k += 1)
      [data[i * width + k], data[j * width + k]] = [data[j * width + k], data[i * width + k]];
  };
  for (let k = 0; k < n; k += 1) {
    let pivot = k;
    for (let i = k + 1; i < n; i += 1) if (Math.abs(m[i * n + k]) > Math.abs(m[pivot * n + k])) pivot = i;
    if (pivot !== k) {
      swap(m, n, k, pivot);
      swap(x, columns, k, pivot);
    }
    for (let i = k + 1; i < n; i += 1) {
      const factor = m[i * n + k] / m[k * n + k];
      if (factor === 0) continue;
      for (let j = k + 1; j < n; j += 1) m[i * n + j] -= factor * m[k * n + j];
      for (let j = 0; j < columns; j += 1) x[i * columns + j] -= factor * x[k * columns + j];
    }
  }
  for (let i = n - 1; i >= 0; i -= 1)
    for (let j = 0; j < columns; j += 1) {
      for (let k = i + 1; k < n; k += 1) x[i * columns + j] -= m[i * n + k] * x[k * columns + j];
      x[i * columns + j] /= m[i * n + i];
    }
  return { shape: [n, columns], data: x };
}

/** X of the sum of L X R over the pairs [L, R] = Q, as one system; null where that is too large. */
export function linear(pairs, q) {
  const [rows, columns] = q.shape;
  const size = rows * columns;
  if (size > MOST_UNKNOWNS) return null;
  const system = filled(size, size, (row, column) => {
    const [i, j] = [Math.floor(row / columns), row % columns];
    const [k, l] = [Math.floor(column / columns), column % columns];
    return pairs.reduce((sum, [left, right]) => sum + left.data[i * rows + k] * right.data[l * columns + j], 0);
  });
  return { shape: q.shape, data: solved(system, { shape: [size, 1], data: q.data }).data };
}

/** The matrix sign, by Newton's iteration on X and its inverse, scaled by their norms. */
export function sign(a) {
  let x = a;
  for (let step = 0; step < MOST_STEPS; step += 1) {
    const inverse = solved(x, identity(a.shape[0]));
    const scale = step < 10 ? Math.sqrt(norm(inverse) / norm(x)) : 1;
    const next = combined(scale / 2, x, 1 / (2 * scale), inverse);
    const moved = norm(combined(1, next, -1, x)) / norm(next);
    x = next;
    if (!(moved > 1e-15)) break;
  }
  return x;
}

/** diag(l) + tril(Q K^T, -1). */
export function dplrMatrix(l, q, k) {
  const both = product(q, transpose(k));
  const n = l.shape[0];
  return filled(n, n, (i, j) => (i === j ? l.data[i] : i > j ? both.data[i * n + j] : 0));
}

/** The squared Fréchet distance of two Gaussians. */
export function frechet(mu1, s1, mu2, s2) {
  const { values, vectors } = eigh(s1);
  const n = values.length;
  const scaled = filled(n, n, (i, j) => vectors.data[i * n + j] * Math.sqrt(Math.max(values[j], 0)));
  const middle = eigh(product(product(transpose(scaled), s2), scaled)).values;
  const trace = ({ data }) => Array.from({ length: n }, (_, i) => data[i * (n + 1)]).reduce((sum, x) => sum + x, 0);
  const apart = mu1.data.reduce((sum, value, i) => sum + (value - mu2.data[i]) ** 2, 0);
  const common = middle.reduce((sum, value) => sum + Math.sqrt(Math.max(value, 0)), 0);
  return { shape: [], data: Float64Array.of(apart + trace(s1) + trace(s2) - 2 * common) };
}
