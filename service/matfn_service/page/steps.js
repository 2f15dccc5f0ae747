// The scalar form x <- x (a + b x^r + c x^2r) of the iterations: optimal coefficients, Muon's, and Newton-Schulz's.
//
// As in numbers/coefficients.py, whose docstring has the sources: each step is the minimax approximation of 1 on the
// interval that the step before left, widened by a cushion; near 1 the Taylor step ends it.

const CUSHION = 0.1;
const TAIL = 5e-6;
const TARGET = 2e-16;
const MOST = 64;

/** Coefficients of the cubically convergent step at 1. */
export function taylorStep(r) {
  return [((r + 1) * (2 * r + 1)) / (2 * r * r), -(2 * r + 1) / (r * r), (r + 1) / (2 * r * r)];
}

/** One step at x. */
export function stepped([a, b, c], r, x) {
  return x * (a + b * x ** r + c * x ** (2 * r));
}

function minimaxStep(r, l, u) {
  let points = [l, l + (u - l) / 4, l + (3 * (u - l)) / 4, u];
  let local = [0, 0, 0];
  let moved = Infinity;
  for (let exchange = 0; exchange < 100; exchange += 1) {
    local = equioscillating(r, points);
    const next = stationary(r, local, l, u);
    const last = moved;
    moved = Math.max(...next.map((point, place) => Math.abs(point - points[place])));
    points = next;
    if (moved <= 1e-15 * u || (moved <= 1e-9 * u && moved >= last)) break;
  }
  const [alpha, beta, gamma] = local;
  return [alpha - beta + gamma, beta - 2 * gamma, gamma];
}

function equioscillating(r, points) {
  const z = points.map((x) => Math.expm1(r * Math.log(x)));
  const width = Math.max(...z.map(Math.abs));
  const rows = points.map((x, i) => [x, (x * z[i]) / width, x * (z[i] / width) ** 2, i % 2 ? -1 : 1, 1]);
  const [alpha, beta, gamma] = solved(rows);
  return [alpha, beta / width, gamma / width ** 2];
}

/** The solution of a small system whose last column is the right-hand side, by elimination with pivots. */
function solved(rows) {
  const n = rows.length;
  for (let k = 0; k < n; k += 1) {
    const pivot = rows.reduce((best, row, i) => (i >= k && Math.abs(row[k]) > Math.abs(rows[best][k]) ? i : best), k);
    [rows[k], rows[pivot]] = [rows[pivot], rows[k]];
    for (let i = k + 1; i < n; i += 1) {
      const factor = rows[i][k] / rows[k][k];
      for (let j = k; j <= n; j += 1) rows[i][j] -= factor * rows[k][j];
    }
  }
  const x = new Array(n).fill(0);
  for (let i = n - 1; i >= 0; i -= 1)
    x[i] = (rows[i][n] - x.reduce((sum, value, j) => sum + (j > i ? rows[i][j] * value : 0), 0)) / rows[i][i];
  return x;
}

function stationary(r, [alpha, beta, gamma], l, u) {
  const quadratic = (1 + 2 * r) * gamma;
  const linear = (1 + r) * beta + 2 * r * gamma;
  const constant = alpha + r * beta;
  const root = Math.sqrt(Math.max(linear * linear - 4 * quadratic * constant, 0));
  const larger = -0.5 * (linear + (linear < 0 ? -root : root));
  const zs = [larger / quadratic, constant / larger].sort((x, y) => x - y);
  const inner = zs.map((z) => Math.exp(Math.log1p(Math.max(z, -1 + 1e-300)) / r));
  return [l, ...inner, u].map((x) => Math.min(Math.max(x, l), u));
}

/** The steps that take every x of [bound, 1] to 1. */
export function optimalSteps(r, bound) {
  const steps = [];
  let l = bound;
  let u = 1;
  for (let error = 1; error > TARGET && steps.length < MOST;) {
    if (1 - l < TAIL && u - 1 < TAIL) return [...steps, taylorStep(r)];
    const widened = Math.max(l, CUSHION * u);
    const raw = minimaxStep(r, widened, u);
    const low = stepped(raw, r, l);
    const high = 2 - stepped(raw, r, widened);
    const scale = 2 / (low + high);
    steps.push(raw.map((value) => scale * value));
    [l, u] = [scale * low, scale * high];
    error = Math.max(1 - l, u - 1);
  }
  return steps;
}

const MUON = [3.4445, -4.775, 2.0315];

/** The schedules to compare: each gives the coefficients of the steps, for a root and the smallest x. */
export const SCHEDULES = {
  optimal: { suits: () => true, steps: optimalSteps },
  newton_schulz: {
    suits: () => true,
    steps: (r, bound) => repeated([1 + 1 / r, -1 / r, 0], r, bound),
  },
  muon: { suits: (r) => r === 2, steps: () => new Array(5).fill(MUON) },
};

/** One step again and again, until the smallest x has come to 1. */
function repeated(coefficients, r, bound) {
  const steps = [];
  for (let x = bound; Math.abs(1 - x) > 1e-15 && steps.length < MOST; x = stepped(coefficients, r, x))
    steps.push(coefficients);
  return steps;
}

/** Where each x is after 0, 1, 2, ... steps: one array a step. */
export function trajectories(steps, r, xs) {
  const all = [xs];
  for (const step of steps) all.push(all.at(-1).map((x) => stepped(step, r, x)));
  return all;
}

/** The root whose iteration a call may use, and what its x are made of; null where there is none to show. */
export function iterationOf(name, params) {
  if (["msign", "mclip", "polar"].includes(name)) return { r: 2, of: "singular" };
  if (params.structure === "general" || params.damping === "range") return null;
  if (name === "sqrt_pair") return { r: 2, of: "eigen" };
  if (["root", "inv_root"].includes(name)) return { r: Number(params.r) || 2, of: "eigen" };
  return null;
}
