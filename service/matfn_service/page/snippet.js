// The panel with the same call as code, and what it needs to be saved.

import { callOf, snippets } from "./code.js";
import { h, save, show } from "./dom.js";
import { npy } from "./tensors.js";
import { t } from "./words.js";

/** Draws the panel into its place; `view` keeps which language is shown. */
export function drawCode(view) {
  const { state, parts, tensors } = view;
  if (!tensors) return;
  const call = {
    name: state.call.name,
    tensors,
    dtype: state.call.dtype,
    params: state.call.params,
    options: state.call.options,
  };
  const texts = snippets(call, view.entryOf(call.name));
  const large = texts.curl.includes("@call.json");
  const chosen = (view.language ??= "python");
  const pre = h("pre", { tabindex: 0, "aria-label": t("snippet.title") }, h("code", {}, texts[chosen]));
  const tab = (name, label) =>
    h(
      "button",
      {
        type: "button",
        "aria-pressed": String(name === chosen),
        onclick: (event) => {
          view.language = name;
          drawCode(view);
          parts.code.querySelector('[aria-pressed="true"]').focus();
          event.preventDefault();
        },
      },
      label,
    );
  const files = Object.entries(tensors).map(([name, tensor]) =>
    h(
      "button",
      { type: "button", class: "quiet", onclick: () => save(`${name}.npy`, npy(tensor, call.dtype)) },
      t("play.save", { name: `${name}.npy` }),
    ),
  );
  const whole = h(
    "button",
    {
      type: "button",
      class: "quiet",
      onclick: () => save("call.json", JSON.stringify(callOf(call)), "application/json"),
    },
    t("play.save", { name: "call.json" }),
  );
  show(
    parts.code,
    h(
      "section",
      { class: "panel code" },
      h("h3", {}, t("snippet.title")),
      h(
        "div",
        { class: "row" },
        h("div", { class: "choice" }, tab("python", "Python"), tab("curl", "curl"), tab("javascript", "JavaScript")),
        h(
          "button",
          { type: "button", class: "quiet", onclick: (event) => copy(texts[chosen], event.target) },
          t("snippet.copy"),
        ),
      ),
      pre,
      large ? h("p", { class: "downloads" }, chosen === "python" ? files : whole) : null,
    ),
  );
}

/** Puts a text on the clipboard, and says so on the button. */
export async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = t("snippet.copied");
  } catch {
    button.textContent = t("snippet.not_copied");
  }
  setTimeout(() => (button.textContent = before), 1500);
}
