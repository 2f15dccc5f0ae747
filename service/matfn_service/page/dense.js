// Dense matrices in float64, small enough for a browser: products, norms, eigenvalues and singular values.

/** An (n, m) matrix from a function of row and column. */
export function filled(rows, columns, entry) {
  const data = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i += 1) for (let j = 0; j < columns; j += 1) data[i * columns + j] = entry(i, j);
  return { shape: [rows, columns], data };
}

/** The product A B. */
export function product(a, b) {
  const [rows, inner] = a.shape;
  const columns = b.shape[1];
  const data = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i += 1)
    for (let k = 0; k < inner; k += 1) {
      const factor = a.data[i * inner + k];
      if (factor !== 0) for (let j = 0; j < columns; j += 1) data[i * columns + j] += factor * b.data[k * columns + j];
    }
  return { shape: [rows, columns], data };
}

/** The transpose. */
export function transpose(a) {
  const [rows, columns] = a.shape;
  return filled(columns, rows, (i, j) => a.data[j * columns + i]);
}

/** a A + b B. */
export function combined(a, first, b, second) {
  return { shape: first.shape, data: first.data.map((value, place) => a * value + b * second.data[place]) };
}

/** The identity of an order. */
export function identity(n) {
  return filled(n, n, (i, j) => Number(i === j));
}

/** A power with a whole exponent of at least 0. */
export function power(a, exponent) {
  let answer = identity(a.shape[0]);
  for (let base = a, rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2) answer = product(answer, base);
    if (rest > 1) base = product(base, base);
  }
  return answer;
}

/** The Frobenius norm, without overflow. */
export function norm(a) {
  let largest = 0;
  for (const value of a.data) largest = Math.max(largest, Math.abs(value));
  if (!(largest > 0) || !Number.isFinite(largest)) return largest;
  let sum = 0;
  for (const value of a.data) sum += (value / largest) ** 2;
  return largest * Math.sqrt(sum);
}

/** Whether a matrix is its own transpose, to a relative tolerance. */
export function isSymmetric(a, tolerance = 1e-6) {
  const [rows, columns] = a.shape;
  if (a.shape.length !== 2 || rows !== columns) return false;
  return norm(combined(1, a, -1, transpose(a))) <= tolerance * norm(a);
}

/** Eigenvalues of a symmetric matrix, descending by Householder's tridiagonal form and QL. */
export function eigenvalues(a) {
  const { diagonal, off } = tridiagonal(a);
  return tridiagonalEigenvalues(diagonal, off).sort((x, y) => y - x);
}

/** Householder's reduction to a tridiagonal matrix (Golub and Van Loan, algorithm 8.3.1). */
function tridiagonal(a) {
  const n = a.shape[0];
  const w = Float64Array.from(a.data);
  const diagonal = new Float64Array(n);
  const off = new Float64Array(n);
  for (let k = 0; k < n - 1; k += 1) {
    const v = new Float64Array(n);
    let scale = 0;
    for (let i = k + 1; i < n; i += 1) scale = Math.max(scale, Math.abs(w[i * n + k]));
    if (scale === 0) continue;
    let sum = 0;
    for (let i = k + 1; i < n; i += 1) sum += (v[i] = w[i * n + k] / scale) ** 2;
    const alpha = v[k + 1] > 0 ? -Math.sqrt(sum) : Math.sqrt(sum);
    const beta = sum - v[k + 1] * alpha;
    v[k + 1] -= alpha;
    off[k + 1] = alpha * scale;
    if (beta > 0) reflectBothSides(w, v, beta, k + 1, n);
  }
  for (let i = 0; i < n; i += 1) diagonal[i] = w[i * n + i];
  return { diagonal, off };
}

/** W - v p^T - p v^T on the rows and columns from `start` on. */
function reflectBothSides(w, v, beta, start, n) {
  const p = new Float64Array(n);
  let dot = 0;
  for (let i = start; i < n; i += 1) {
    let sum = 0;
    for (let j = start; j < n; j += 1) sum += w[i * n + j] * v[j];
    p[i] = sum / beta;
    dot += p[i] * v[i];
  }
  for (let i = start; i < n; i += 1) p[i] -= (dot / (2 * beta)) * v[i];
  for (let i = start; i < n; i += 1) for (let j = start; j < n; j += 1) w[i * n + j] -= v[i] * p[j] + p[i] * v[j];
}

/** Eigenvalues of a tridiagonal matrix by implicit QL (Parlett, The Symmetric Eigenvalue Problem, chapter 8). */
function tridiagonalEigenvalues(diagonal, offDiagonal) {
  const n = diagonal.length;
  const d = Float64Array.from(diagonal);
  const e = new Float64Array(n);
  for (let i = 1; i < n; i += 1) e[i - 1] = offDiagonal[i];
  for (let l = 0; l < n; l += 1) {
    for (let sweeps = 0; sweeps < 60; sweeps += 1) {
      let m = l;
      while (m < n - 1 && Math.abs(e[m]) > Number.EPSILON * (Math.abs(d[m]) + Math.abs(d[m + 1]))) m += 1;
      if (m === l) break;
      sweepUp(d, e, l, m);
    }
  }
  return d;
}

function sweepUp(d, e, l, m) {
  let g = (d[l + 1] - d[l]) / (2 * e[l]);
  g = d[m] - d[l] + e[l] / (g + (g >= 0 ? 1 : -1) * Math.hypot(g, 1));
  let s = 1;
  let c = 1;
  let p = 0;
  for (let i = m - 1; i >= l; i -= 1) {
    const f = s * e[i];
    const b = c * e[i];
    const r = Math.hypot(f, g);
    e[i + 1] = r;
    if (r === 0) {
      d[i + 1] -= p;
      e[m] = 0;
      return;
    }
    s = f / r;
    c = g / r;
    g = d[i + 1] - p;
    const t = (d[i] - g) * s + 2 * c * b;
    p = s * t;
    d[i + 1] = g + p;
    g = c * t - b;
  }
  d[l] -= p;
  e[l] = g;
  e[m] = 0;
}

/** Singular values, descending: bidiagonal form, whose Golub-Kahan matrix is tridiagonal with eigenvalues +-sigma. */
export function singularValues(matrix) {
  const a = matrix.shape[0] < matrix.shape[1] ? transpose(matrix) : matrix;
  const n = a.shape[1];
  const { diagonal, off } = bidiagonal(a);
  const beside = new Float64Array(2 * n);
  for (let i = 0; i < n; i += 1) {
    beside[2 * i + 1] = diagonal[i];
    if (i + 1 < n) beside[2 * i + 2] = off[i];
  }
  const values = tridiagonalEigenvalues(new Float64Array(2 * n), beside).sort((x, y) => y - x);
  return values.subarray(0, n).map(Math.abs);
}

/** Diagonal and superdiagonal of the bidiagonal form by reflections from both sides. */
function bidiagonal(a) {
  const [m, n] = a.shape;
  const w = Float64Array.from(a.data);
  const diagonal = new Float64Array(n);
  const off = new Float64Array(n);
  for (let k = 0; k < n; k += 1) {
    diagonal[k] = reflectColumn(w, m, n, k);
    if (k < n - 1) off[k] = reflectRow(w, m, n, k);
  }
  return { diagonal, off };
}

function reflectColumn(w, m, n, k) {
  let sum = 0;
  for (let i = k; i < m; i += 1) sum += w[i * n + k] ** 2;
  const alpha = w[k * n + k] > 0 ? -Math.sqrt(sum) : Math.sqrt(sum);
  const beta = sum - w[k * n + k] * alpha;
  w[k * n + k] -= alpha;
  if (!(beta > 0)) return alpha;
  const dots = new Float64Array(n);
  for (let i = k; i < m; i += 1) for (let j = k + 1; j < n; j += 1) dots[j] += w[i * n + k] * w[i * n + j];
  for (let i = k; i < m; i += 1) for (let j = k + 1; j < n; j += 1) w[i * n + j] -= (w[i * n + k] * dots[j]) / beta;
  return alpha;
}

function reflectRow(w, m, n, k) {
  let sum = 0;
  for (let j = k + 1; j < n; j += 1) sum += w[k * n + j] ** 2;
  const alpha = w[k * n + k + 1] > 0 ? -Math.sqrt(sum) : Math.sqrt(sum);
  const beta = sum - w[k * n + k + 1] * alpha;
  w[k * n + k + 1] -= alpha;
  if (!(beta > 0)) return alpha;
  for (let i = k + 1; i < m; i += 1) {
    let dot = 0;
    for (let j = k + 1; j < n; j += 1) dot += w[k * n + j] * w[i * n + j];
    for (let j = k + 1; j < n; j += 1) w[i * n + j] -= (w[k * n + j] * dot) / beta;
  }
  return alpha;
}

/** Eigenvalues and eigenvectors (columns) of a small symmetric matrix by Jacobi's rotations. */
export function eigh(a) {
  const n = a.shape[0];
  const w = Float64Array.from(a.data);
  for (let i = 0; i < n; i += 1)
    for (let j = 0; j < i; j += 1) w[i * n + j] = w[j * n + i] = (a.data[i * n + j] + a.data[j * n + i]) / 2;
  const v = identity(n).data;
  for (let sweeps = 0, rotated = true; rotated && sweeps < 30; sweeps += 1) {
    rotated = false;
    for (let p = 0; p < n - 1; p += 1) for (let q = p + 1; q < n; q += 1) rotated = rotate(w, v, n, p, q) || rotated;
  }
  return { values: filled(n, 1, (i) => w[i * n + i]).data, vectors: { shape: [n, n], data: v } };
}

function rotate(w, v, n, p, q) {
  const off = w[p * n + q];
  const sizes = Math.abs(w[p * n + p]) + Math.abs(w[q * n + q]);
  if (Math.abs(off) <= Number.EPSILON * 0.1 * sizes || off === 0) return false;
  const theta = (w[q * n + q] - w[p * n + p]) / (2 * off);
  const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.hypot(theta, 1));
  const c = 1 / Math.hypot(t, 1);
  const s = t * c;
  for (let k = 0; k < n; k += 1) turn(w, k * n + p, k * n + q, c, s);
  for (let k = 0; k < n; k += 1) turn(w, p * n + k, q * n + k, c, s);
  for (let k = 0; k < n; k += 1) turn(v, k * n + p, k * n + q, c, s);
  return true;
}

function turn(w, first, second, c, s) {
  const x = w[first];
  const y = w[second];
  w[first] = c * x - s * y;
  w[second] = s * x + c * y;
}

/** U, sigma and V of M = U diag(sigma) V^T by one-sided Jacobi rotations; M has at least as many rows as columns. */
export function svd(matrix) {
  const [m, n] = matrix.shape;
  const columns = transpose(matrix).data; // row j is column j
  const v = identity(n).data;
  for (let sweeps = 0, rotated = true; rotated && sweeps < 30; sweeps += 1) {
    rotated = false;
    for (let p = 0; p < n - 1; p += 1)
      for (let q = p + 1; q < n; q += 1) rotated = orthogonalise(columns, v, m, n, p, q) || rotated;
  }
  const values = new Float64Array(n);
  for (let j = 0; j < n; j += 1) values[j] = norm({ data: columns.subarray(j * m, (j + 1) * m) });
  const u = filled(m, n, (i, j) => (values[j] > 0 ? columns[j * m + i] / values[j] : 0));
  return { u, values, v: transpose({ shape: [n, n], data: v }) };
}

function orthogonalise(columns, v, m, n, p, q) {
  let alpha = 0;
  let beta = 0;
  let gamma = 0;
  for (let k = 0; k < m; k += 1) {
    const x = columns[p * m + k];
    const y = columns[q * m + k];
    alpha += x * x;
    beta += y * y;
    gamma += x * y;
  }
  if (Math.abs(gamma) <= 1e-15 * Math.sqrt(alpha * beta) || gamma === 0) return false;
  const zeta = (beta - alpha) / (2 * gamma);
  const t = (zeta >= 0 ? 1 : -1) / (Math.abs(zeta) + Math.hypot(zeta, 1));
  const c = 1 / Math.hypot(t, 1);
  for (let k = 0; k < m; k += 1) turn(columns, p * m + k, q * m + k, c, t * c);
  for (let k = 0; k < n; k += 1) turn(v, p * n + k, q * n + k, c, t * c);
  return true;
}
