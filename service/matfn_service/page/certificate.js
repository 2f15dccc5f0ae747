// A certificate, a problem and the timing in words.

import { errorChart } from "./charts.js";
import { h } from "./dom.js";
import { milliseconds, number, small } from "./format.js";
import { EPS } from "./tensors.js";
import { known, t } from "./words.js";

const MARKS = { converged: "✓", approximate: "≈", failed: "✕" };

/** The verdict on an answer, and every figure of its certificate. */
export function certificateCard(certificate, { tol = null, truth = null, check = null, about = "certificate" } = {}) {
  const facts = [
    ["estimate", small(certificate.error_estimate)],
    truth !== null && ["truth", small(truth)],
    certificate.error_bound !== null &&
      certificate.error_bound !== undefined && ["bound", small(certificate.error_bound)],
    tol !== null && ["tol", small(tol)],
    ["condition", number(certificate.condition)],
    ["method", methodText(certificate)],
    ["precision", certificate.precision],
    certificate.steps ? ["steps", certificate.steps] : null,
    certificate.rank !== null && ["rank", certificate.rank],
    certificate.residual && [
      "residual",
      `${small(certificate.residual.value)}  (${residualName(certificate.residual)})`,
    ],
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
    ...moreToSay(certificate).map(([words, attributes]) => h("p", attributes, words)),
    h(
      "dl",
      { class: "facts" },
      facts
        .filter(Boolean)
        .map(([name, value]) => h("div", {}, h("dt", {}, t(`fact.${name}`)), h("dd", {}, String(value)))),
    ),
    errorLine(certificate, { tol, truth }),
    check,
  );
}

/** The tolerance that holds: the one asked for, or the default, 50 eps times the condition within its limits. */
export function toleranceOf({ name }, { dtype, params, options }, { condition }) {
  if (options.tol) return options.tol;
  if (!condition || (options.precision ?? "auto") !== "auto") return null;
  const growth = ["root", "inv_root"].includes(name) ? Math.max(1, (params.s ?? 1) / params.r) : 1;
  const most = EPS[dtype] > EPS.float32 ? 1e-2 : 1e-3;
  return Math.max(EPS[dtype], Math.min(most, 50 * EPS[dtype] * growth * condition));
}

/** True error, estimate, bound and tolerance as marks on one line, whose unit is a power of ten. */
function errorLine({ error_estimate: estimate, error_bound: bound, outcome }, { tol, truth }) {
  const marks = [
    ["truth", truth],
    ["estimate", estimate],
    ["bound", bound],
    ["tol", tol],
  ].filter(([, value]) => typeof value === "number" && value > 0 && Number.isFinite(value));
  if (outcome === "failed" || marks.length < 2) return null;
  return errorChart(
    marks.map(([name, value]) => ({ name, value, told: `${t(`fact.${name}`)} ${small(value)}` })),
    t("fact.line"),
  );
}

/** What a residual measures: a formula, or words of this page's language. */
function residualName({ name }) {
  return known(`residual.${name}`) ? t(`residual.${name}`) : name;
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

/** The code and the hint, but for what the sentence with the estimate has said. */
function moreToSay({ code, hint, error_estimate: estimate }) {
  const isSaid = code === "not_converged" && estimate !== null;
  const clauses = (hint ?? "").split("; ");
  const rest = clauses.filter((clause) => !isSaid || !clause.startsWith("estimated relative error"));
  return [
    [isSaid || !code ? null : codeText(code), {}],
    [rest.join("; "), { class: "hint", lang: "en" }],
  ].filter(([words]) => words);
}

/** A code and what it means. */
export function codeText(code) {
  return known(`code.${code}`) ? `${code}: ${t(`code.${code}`)}` : code;
}

/** What the rounding of this page's own evaluation may come to. */
function ownRounding(certificate) {
  return 4 * 2.2e-16 * Math.max(1, certificate.condition ?? 1);
}

/** The true error of an answer, where this page's own evaluation is far more accurate than it; else null. */
export function trueError(check, certificate) {
  const found = check?.distance ?? null;
  return found !== null && found > 4 * ownRounding(certificate) ? found : null;
}

/** What this page's own check found. */
export function checkText(check, certificate) {
  if (!check || (check.distance === null && !check.residual)) return null;
  const floor = ownRounding(certificate);
  const told = [];
  if (check.distance !== null) {
    const value = small(check.distance);
    told.push(
      check.distance <= floor && floor < 1
        ? t("check.alike", { value, floor: small(floor) })
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
    problem.detail && !network ? h("p", { class: "detail", lang: "en" }, problem.detail) : null,
    problem.hint ? h("p", { class: "hint" }, t("problem.hint"), h("span", { lang: "en" }, problem.hint)) : null,
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
