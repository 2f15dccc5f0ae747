// Jobs for the worker beside the page, as promises.

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let sent = 0;

worker.addEventListener("message", ({ data: { number, value, error } }) => {
  const { resolve, reject } = waiting.get(number);
  waiting.delete(number);
  if (error) reject(new Error(error));
  else resolve(value);
});

/** The value of a job. */
export function beside(job, argument) {
  sent += 1;
  const number = sent;
  return new Promise((resolve, reject) => {
    waiting.set(number, { resolve, reject });
    worker.postMessage({ number, job, argument });
  });
}
