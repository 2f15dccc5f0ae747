// A certificate, a problem and the timing in words.

import { h } from "./dom.js";
import { milliseconds, number, small } from "./format.js";
import { known, t } from "./words.js";

const MARKS = { converged: "✓", approximate: "≈", failed: "✕" };

/** The verdict on an answer, and every figure of its certificate. */
export function certificateCard(certificate, { tol = null, check = null, about = "certificate" } = {}) {
  const facts = [
    ["estimate", small(certificate.error_estimate)],
    certificate.error_bound !== null &&
      certificate.error_bound !== undefined && ["bound", small(certificate.error_bound)],
    tol !== null && ["tol", small(tol)],
    ["condition", number(certificate.condition)],
    ["method", methodText(certificate)],
    ["precision", certificate.precision],
    certificate.steps ? ["steps", certificate.steps] : null,
    certificate.rank !== null && ["rank", certificate.rank],
    certificate.residual && ["residual", `${small(certificate.residual.value)}  (${certificate.residual.name})`],
    certificate.damping ? ["damping", small(certificate.damping)] : null,
    certificate.shift ? ["shift", number(certificate.shift, 4)] : null,
  ];
  return h(
    "section",
    { class: `verdict ${certificate.outcome}`, "aria-live": "polite" },
    h(
      "h3",
      {},
      h("span", { class: "mark", "aria-hidden": "true" }, MARKS[certificate.outcome]),
      t(`${about}.title.${certificate.outcome}`),
    ),
    h("p", {}, sentence(certificate, about)),
    certificate.shift ? h("p", {}, t("certificate.shifted", { shift: number(certificate.shift, 4) })) : null,
    certificate.code ? h("p", {}, codeText(certificate.code)) : null,
    certificate.hint ? h("p", { class: "hint" }, certificate.hint) : null,
    h(
      "dl",
      { class: "facts" },
      facts
        .filter(Boolean)
        .map(([name, value]) => h("div", {}, h("dt", {}, t(`fact.${name}`)), h("dd", {}, String(value)))),
    ),
    check,
  );
}

function methodText({ method, fallback }) {
  return fallback ? `${method} ${t("fact.after", { fallback })}` : method;
}

function sentence({ outcome, error_estimate: estimate, error_bound: bound }, about) {
  if (outcome === "failed") return t(`${about}.failed`);
  if (bound !== null && bound !== undefined)
    return t(`${about}.bound`, { bound: small(bound), estimate: small(estimate) });
  if (estimate === null) return t(`${about}.unknown`);
  return t(`${about}.${outcome}`, { estimate: small(estimate) });
}

/** A code and what it means. */
export function codeText(code) {
  return known(`code.${code}`) ? `${code}: ${t(`code.${code}`)}` : code;
}

/** What this page's own check found. */
export function checkText(check, certificate) {
  if (!check || (check.distance === null && !check.residual)) return null;
  const floor = 2.2e-16 * Math.max(1, certificate.condition ?? 1);
  const told = [];
  if (check.distance !== null) {
    const value = small(check.distance);
    told.push(
      check.distance <= 4 * floor && floor < 1
        ? t("check.alike", { value, floor: small(4 * floor) })
        : t("check.distance", { value }),
    );
  }
  if (check.residual) told.push(t("check.residual", { name: check.residual.name, value: small(check.residual.value) }));
  return h("p", { class: "check" }, h("b", {}, t("check.title")), " ", told.join(" "));
}

/** Where the time went, as one bar. */
export function timingBar(timing, total) {
  const rest = Math.max(0, total - timing.queue_ms - timing.device_ms);
  const parts = [
    ["queue", timing.queue_ms],
    ["device", timing.device_ms],
    ["rest", rest],
  ];
  const bar = h("div", { class: "bar-line", "aria-hidden": "true" });
  for (const [name, value] of parts) {
    const part = h("span", { class: name });
    part.style.flexGrow = String(Math.max(0.001, value / total));
    bar.append(part);
  }
  return h(
    "div",
    { class: "timing" },
    h("p", {}, t("timing.total", { total: milliseconds(total) }), " ", t("timing.batch", { size: timing.batch_size })),
    bar,
    h(
      "ul",
      {},
      parts.map(([name, value]) => h("li", { class: name }, `${t(`timing.${name}`)} ${milliseconds(value)}`)),
    ),
  );
}

/** A refusal in words: what was wrong, and what to try. */
export function problemCard(error) {
  const problem = error.problem ?? { code: "page", detail: String(error.message ?? error) };
  const network = problem.code === "unreachable";
  return h(
    "section",
    { class: "verdict failed", role: "alert" },
    h(
      "h3",
      {},
      h("span", { class: "mark", "aria-hidden": "true" }, "✕"),
      network ? t("problem.network") : t("problem.title", { code: problem.code }),
    ),
    network
      ? h("p", {}, t("problem.network_detail"))
      : known(`code.${problem.code}`)
        ? h("p", {}, t(`code.${problem.code}`))
        : null,
    problem.detail && !network ? h("p", { class: "detail" }, problem.detail) : null,
    problem.hint ? h("p", { class: "hint" }, t("problem.hint"), problem.hint) : null,
    h(
      "p",
      { class: "muted" },
      [
        problem.status ? `HTTP ${problem.status}` : "",
        problem.request_id ? `${t("problem.request")} ${problem.request_id}` : "",
      ]
        .filter(Boolean)
        .join(" · "),
    ),
  );
}
