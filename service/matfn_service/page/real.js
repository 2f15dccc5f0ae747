// Real matrices, from the demo: a Shampoo factor, covariances, a momentum and a triangle of a DeltaNet layer.

import { filled } from "./dense.js";
import { decode } from "./tensors.js";

const found = { order: 0, matrices: {} };

/** Fetches them; a page without them is no failure. */
export async function fetchReal() {
  const response = await fetch(new URL("./real.json", import.meta.url));
  if (!response.ok) return;
  const { order, matrices } = await response.json();
  Object.assign(found, { order, matrices });
}

/** The largest order there is. */
export function realOrder() {
  return found.order;
}

/** The leading block of one of them: of a symmetric one and a triangle, the numbers are those of the lower part. */
export function real(name, rows, columns) {
  const { kind, data } = found.matrices[name];
  const { order } = found;
  const count = kind === "any" ? order * order : (order * (order + 1)) / 2;
  const numbers = decode({ dtype: "float32", shape: [count], data }).data;
  const below = (i, j) => numbers[(i * (i + 1)) / 2 + j];
  const at = {
    any: (i, j) => numbers[i * order + j],
    symmetric: (i, j) => (i < j ? below(j, i) : below(i, j)),
    triangular: (i, j) => (i < j ? 0 : below(i, j)),
  };
  return filled(rows, columns, at[kind]);
}
