// Formulas of the catalogue, such as A^{s/r} or V clip(w, lo, hi) V^T, as MathML.

import { h } from "./dom.js";

const MATHML = "http://www.w3.org/1998/Math/MathML";
const GREEK = { sigma: "σ", tau: "τ", gamma: "γ", beta: "β", alpha: "α", lambda: "λ", mu: "μ", theta: "θ" };
const SIGNS = { "-": "−", "*": "∗", "||": "‖", "<=": "≤", ">=": "≥" };
const SPELLED = Object.fromEntries(Object.entries(SIGNS).map(([spelled, sign]) => [sign, spelled]));
const BAR = { stretchy: "false", lspace: "0", rspace: "0" };
const TOKENS = /max_logit|\|\||>=|<=|\d+(?:\.\d+)?|[A-Za-z]+\d*|[\^_{}()[\],;=+\-*/|<>.#']|\S/g;

function m(tag, ...children) {
  const element = document.createElementNS(MATHML, tag);
  element.append(...children);
  return element;
}

/** The formula by lines; each is of math elements, between which it may be broken where it is too long. */
export function formula(text) {
  const lines = text.split(/,? (?=where |with )|, (?=[A-Za-z_]+ = )|(?<=^\([^()]*\)): /);
  return lines.map((line) => h("div", {}, broken(line)));
}

const OPERATORS = new Set(["=", "+", "-", "/", ">", "<=", ">="]);
const isWord = (piece) => /^[A-Za-z]{2,}(\d\d)?,?$/.test(piece) && !(piece.replace(",", "") in GREEK);

/** A line, which may be broken around words, and before operators and parentheses. */
function broken(line) {
  const chunks = [];
  let before = "";
  for (const piece of outerPieces(line)) {
    const parts = OPERATORS.has(piece) || piece.startsWith("(") || isWord(piece) || isWord(before);
    if (parts && !OPERATORS.has(before)) chunks.push(piece);
    else chunks.push([chunks.pop(), piece].filter(Boolean).join(" "));
    before = piece;
  }
  const isSpaced = (chunk, place) => isWord(chunk) || isWord(chunks[place - 1].split(" ").at(-1));
  return chunks.flatMap((chunk, place) => [
    place === 0 ? null : isSpaced(chunk, place) && !OPERATORS.has(chunk.split(" ")[0]) ? " " : "\u200b",
    isWord(chunk) ? h("span", { class: "word" }, chunk) : m("math", infix(row(chunk.match(TOKENS)))),
  ]);
}

/** What the spaces separate that are in no parentheses. */
function outerPieces(text) {
  const pieces = [""];
  let depth = 0;
  for (const letter of text) {
    if ("([{".includes(letter)) depth += 1;
    if (")]}".includes(letter)) depth -= 1;
    if (letter === " " && depth === 0) pieces.push("");
    else pieces[pieces.length - 1] += letter;
  }
  return pieces;
}

/** An operator stands between two parts, also where a line may be broken before it. */
function infix(part) {
  if (part.childElementCount > 1 && OPERATORS.has(SPELLED[part.firstChild.textContent] ?? part.firstChild.textContent))
    part.firstChild.setAttribute("form", "infix");
  return part;
}

/** The formulas of a function's outputs, where its formula names them all: those of w and V in (w, V): A V = ... */
export function outputFormulas({ formula: text, outputs }) {
  const parts = tuple(text);
  if (outputs.length < 2 || parts.length !== outputs.length) return [];
  return parts.map((part) => m("math", row(part.match(TOKENS))));
}

/** What the commas separate in the parentheses with which a text begins. */
function tuple(text) {
  const parts = [""];
  for (let at = 1, depth = 1; text[0] === "(" && at < text.length; at += 1) {
    if ("({".includes(text[at])) depth += 1;
    if (")}".includes(text[at])) depth -= 1;
    if (depth === 0) break;
    if (depth === 1 && text[at] === ",") parts.push("");
    else parts[parts.length - 1] += text[at];
  }
  return parts;
}

function row(tokens, end = "}") {
  const parts = [];
  while (tokens.length && tokens[0] !== end) parts.push(scripted(tokens));
  const first = parts[0]?.firstChild;
  if (first?.localName === "mspace") first.remove();
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
  if (/^[A-Za-z]{2}/.test(tokens[0]) && !(tokens[0] in GREEK)) return m("mi", tokens.shift());
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
  const sign = m("mo", SIGNS[token] ?? token);
  if (/^[|[\]]/.test(token)) for (const [name, value] of Object.entries(BAR)) sign.setAttribute(name, value);
  return sign;
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
