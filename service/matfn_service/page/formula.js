// Formulas of the catalogue, such as A^{s/r} or V clip(w, lo, hi) V^T, as MathML.

const MATHML = "http://www.w3.org/1998/Math/MathML";
const GREEK = { sigma: "σ", tau: "τ", gamma: "γ", beta: "β", alpha: "α", lambda: "λ", mu: "μ", theta: "θ" };
const SIGNS = { "-": "−", "*": "∗", "||": "‖" };
const TOKENS = /max_logit|\|\||>=|<=|\d+(?:\.\d+)?|[A-Za-z]+\d?|[\^_{}()[\],;=+\-*/|<>.#']|\S/g;

function m(tag, ...children) {
  const element = document.createElementNS(MATHML, tag);
  element.append(...children);
  return element;
}

/** The formula, a math element for each of its lines. */
export function formula(text) {
  const lines = text.split(/,? (?=where |with )|, (?=[A-Za-z_]+ = )/);
  return lines.map((line) => {
    const math = m("math", row(line.match(TOKENS) ?? []));
    math.setAttribute("display", "block");
    return math;
  });
}

function row(tokens, end = "}") {
  const parts = [];
  while (tokens.length && tokens[0] !== end) parts.push(scripted(tokens));
  return m("mrow", ...parts);
}

/** What stands in parentheses, with them: an exponent is that of the whole. */
function enclosed(tokens) {
  const inner = row(tokens, ")");
  const closed = tokens.shift() ?? "";
  const brackets = ["(", closed].map((text) => m("mo", text));
  for (const bracket of brackets) bracket.setAttribute("stretchy", "false");
  return m("mrow", brackets[0], inner, brackets[1]);
}

/** A part with what stands above and below it. */
function scripted(tokens) {
  let part = atom(tokens);
  const scripts = {};
  while ((tokens[0] === "^" || tokens[0] === "_") && tokens.length > 1) scripts[tokens.shift()] = group(tokens);
  if (scripts["^"] && scripts._) part = m("msubsup", part, scripts._, scripts["^"]);
  else if (scripts["^"]) part = m("msup", part, scripts["^"]);
  else if (scripts._) part = m("msub", part, scripts._);
  return part;
}

function group(tokens) {
  if (tokens[0] !== "{") return atom(tokens);
  tokens.shift();
  const inner = row(tokens);
  tokens.shift();
  return inner;
}

function atom(tokens) {
  const token = tokens.shift();
  if (token === "{") {
    const inner = row(tokens);
    tokens.shift();
    return inner;
  }
  if (token === "(") return enclosed(tokens);
  if (/^\d/.test(token)) return m("mn", token);
  if (token in GREEK) return m("mi", GREEK[token]);
  if (/^[A-Za-z]/.test(token)) return named(token, tokens[0]);
  return m("mo", SIGNS[token] ?? token);
}

/** A letter, a letter with its number, or a word, which stands apart from what is beside it. */
function named(token, next) {
  if (token.length === 1) return m("mi", token);
  const numbered = /^(mu|[A-Z])(\d)$/.exec(token);
  if (numbered) return m("msub", m("mi", GREEK[numbered[1]] ?? numbered[1]), m("mn", numbered[2]));
  const apart = m("mspace");
  apart.setAttribute("width", "0.25em");
  const word = [apart, m("mi", token)];
  if (!["(", "_", "^", ",", ")", "}", undefined].includes(next)) word.push(apart.cloneNode());
  return next === "_" || next === "^" ? word[1] : m("mrow", ...word);
}
