// The service's HTTP interface. Addresses are relative to the page's, so that a proxy may put both below a prefix.

let key = "";
let asked = null;
let askForKey = () => Promise.resolve(null);

/** A refusal of the service, or why no answer came, in words. */
export class Problem extends Error {
  constructor(problem, sent = null) {
    super(problem.detail || problem.title || problem.code);
    this.problem = problem;
    this.sent = sent;
  }
}

/** Names the function that asks for a key: it is told whether one was refused, and promises the new one or null. */
export function onUnauthorized(ask) {
  askForKey = ask;
}

/** Whether a key is known. */
export function hasKey() {
  return key !== "";
}

/** Forgets the key. */
export function forgetKey() {
  key = "";
}

/** One request: { status, headers, text, milliseconds, bytes }, after asking for a key where one is needed. */
export async function request(path, { method = "GET", body = null, signal = null, quiet = false } = {}) {
  for (;;) {
    const used = key;
    const answer = await exchanged(path, method, body, signal);
    if (answer.status !== 401 || quiet) return answer;
    if (used !== key) continue; // another request has asked meanwhile
    asked ||= askForKey(used !== "").finally(() => (asked = null));
    const given = await asked;
    if (!given) return answer;
    key = given;
  }
}

async function exchanged(path, method, body, signal) {
  const headers = { accept: path === "metrics" ? "text/plain" : "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== null) headers["content-type"] = "application/json";
  const started = performance.now();
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), { method, headers, body, signal, cache: "no-store" });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      text,
      milliseconds: performance.now() - started,
      bytes: text.length,
    };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "unreachable", title: "unreachable", detail: String(error.message), status: 0 });
  }
}

/** The JSON of an answer, with how long it took; a Problem where it is a refusal. */
export async function json(path, options) {
  const answer = await request(path, options);
  let value;
  try {
    value = JSON.parse(answer.text);
  } catch {
    value = null;
  }
  if (answer.status >= 400) {
    const unknown = { code: `HTTP ${answer.status}`, detail: answer.text.slice(0, 300), status: answer.status };
    throw new Problem(value?.code ? value : unknown, answer);
  }
  return { value, answer };
}

/** POST of a call. */
export function post(path, call) {
  return json(path, { method: "POST", body: JSON.stringify(call) });
}
