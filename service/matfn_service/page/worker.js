// Runs beside the page: spectra, and the page's own check of an answer, so that typing is never held up.

import { eigenvalues, isSymmetric, singularValues } from "./dense.js";
import { definition, distance, residual } from "./reference.js";

const JOBS = {
  spectrum: ({ matrix, symmetric }) => {
    const kind = (symmetric ?? isSymmetric(matrix)) ? "eigen" : "singular";
    return { kind, values: kind === "eigen" ? eigenvalues(matrix) : singularValues(matrix) };
  },
  check: (call) => ({ distance: distance(call.outputs, definition(call)), residual: residual(call) }),
};

self.addEventListener("message", ({ data: { number, job, argument } }) => {
  try {
    self.postMessage({ number, value: JOBS[job](argument) });
  } catch (error) {
    self.postMessage({ number, error: String(error) });
  }
});
