// The page's frame: tabs by the address' fragment, language, theme, and the dialog that asks for a key.

import { console as consoleTab } from "./console.js";
import { h, show } from "./dom.js";
import { functions } from "./functions.js";
import { live } from "./live.js";
import { playground } from "./playground.js";
import { problemCard } from "./certificate.js";
import { fetchReal } from "./real.js";
import { forgetKey, hasKey, json, onUnauthorized } from "./service.js";
import { verify } from "./verify.js";
import { LANGUAGES, preferred, speak, t } from "./words.js";

const TABS = { playground, functions, verify, live, console: consoleTab };
const context = { catalogue: null, leave: null };
const page = { header: h("header", {}), main: h("main", { id: "main", tabindex: -1 }), footer: h("footer", {}) };

/** What was chosen last time; a browser that keeps nothing is no failure. */
function kept(name, value) {
  try {
    if (value !== undefined) localStorage.setItem(`matfn.${name}`, value);
    return localStorage.getItem(`matfn.${name}`);
  } catch {
    return null;
  }
}

function theme() {
  return kept("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function applyTheme() {
  document.documentElement.dataset.theme = theme();
}

function language() {
  const chosen = kept("language");
  return chosen in LANGUAGES ? chosen : preferred();
}

function tabName() {
  const name = location.hash.slice(1).split(/[?/]/)[0];
  return name in TABS ? name : "playground";
}

function drawFrame() {
  const current = tabName();
  document.title = `matfn · ${t(`tab.${current}`)}`;
  const tabs = Object.keys(TABS).map((name) =>
    h("a", { href: `#${name}`, "aria-current": name === current ? "page" : null }, t(`tab.${name}`)),
  );
  const other = Object.keys(LANGUAGES).find((name) => name !== language());
  const dark = theme() === "dark";
  show(
    page.header,
    h(
      "a",
      {
        class: "skip",
        href: "#main",
        onclick: (event) => {
          event.preventDefault();
          page.main.focus();
        },
      },
      t("page.skip"),
    ),
    h(
      "a",
      { class: "brand", href: "#playground" },
      h("img", { src: new URL("./icon.svg", import.meta.url).href, alt: "", width: 26, height: 26 }),
      "matfn",
    ),
    h("nav", { "aria-label": t("page.tabs") }, tabs),
    h(
      "div",
      { class: "tools" },
      hasKey()
        ? h(
            "button",
            {
              type: "button",
              onclick: () => {
                forgetKey();
                drawFrame();
              },
            },
            t("key.forget"),
          )
        : null,
      h("button", { type: "button", lang: other, onclick: () => chooseLanguage(other) }, LANGUAGES[other]),
      h(
        "button",
        {
          type: "button",
          "aria-label": t(dark ? "page.light" : "page.dark"),
          title: t(dark ? "page.light" : "page.dark"),
          onclick: toggleTheme,
        },
        dark ? "☀" : "☾",
      ),
    ),
  );
  show(
    page.footer,
    h("a", { href: "docs/" }, t("page.documentation")),
    h("a", { href: "docs" }, t("page.manual")),
    h("a", { href: "openapi.json" }, t("page.schema")),
    h("span", {}, t("page.own")),
  );
}

async function chooseLanguage(name) {
  kept("language", name);
  await speak(name);
  await draw();
  page.header.querySelector(".tools [lang]").focus();
}

function toggleTheme() {
  kept("theme", theme() === "dark" ? "light" : "dark");
  applyTheme();
  draw().then(() => page.header.querySelector(".tools button:last-child").focus());
}

/** Draws the tab that the address names. */
async function draw() {
  context.leave?.();
  context.leave = null;
  drawFrame();
  if (!context.catalogue && !(await fetchCatalogue())) return;
  drawFrame();
  show(page.main, h("h1", { class: "unseen" }, `matfn: ${t(`tab.${tabName()}`)}`), TABS[tabName()](context));
}

async function fetchCatalogue() {
  show(page.main, h("p", { class: "muted", role: "status" }, t("page.loading")));
  try {
    context.catalogue = (await json("v1/functions")).value;
    return true;
  } catch (error) {
    show(
      page.main,
      problemCard(error),
      h("button", { type: "button", class: "primary", onclick: draw }, t("page.again")),
    );
    return false;
  }
}

/** Asks for the key in a dialog; null where none is given. */
function askForKey(refused) {
  const input = h("input", { type: "password", autocomplete: "off", required: true, spellcheck: "false", id: "key" });
  const dialog = h(
    "dialog",
    { "aria-labelledby": "key-title" },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "key-title" }, t("key.title")),
      h("p", {}, t(refused ? "key.refused" : "key.needed")),
      h("div", { class: "field" }, h("label", { for: "key" }, t("key.label")), input, h("small", {}, t("key.memory"))),
      h(
        "div",
        { class: "row" },
        h("button", { class: "primary", value: "given" }, t("key.use")),
        h("button", { type: "button", class: "quiet", onclick: () => dialog.close("") }, t("key.cancel")),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "given" ? input.value.trim() : null);
    });
  });
}

async function start() {
  applyTheme();
  onUnauthorized(askForKey);
  await Promise.all([speak(language()), fetchReal().catch(() => null)]);
  document.body.append(page.header, page.main, page.footer);
  addEventListener("hashchange", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    applyTheme();
    draw();
  });
  await draw();
}

start();
