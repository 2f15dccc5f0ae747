// One input of a call: generated, pasted, or read from a file.

import { field, grouped, h, select, show, slider } from "./dom.js";
import { shapeText, small } from "./format.js";
import { KINDS, generate, isRandom, kindGroups, kindsFor } from "./generate.js";
import { Unreadable, parseFile, parseText } from "./read.js";
import { c, known, t } from "./words.js";

const WAYS = ["generate", "paste", "file"];
const MOST_ENTRIES = 2 ** 22;
const MOST_OFF = -1; // one step further right: no error at all

/** The input as it is at first. */
export function firstSpec(input, kind = defaultKind(input), settings = {}) {
  return { way: "generate", kind, settings: { ...settings }, seed: 1, text: "", given: null };
}

function defaultKind(input) {
  const kinds = kindsFor(input);
  if (input.triangular) return "triangular";
  if (input.symmetric) return "spectrum";
  return kinds.includes("gaussian") ? "gaussian" : kinds[0];
}

/** The matrix of an input, in float64; throws Unreadable. */
export function matrixOf(spec, input, shape) {
  if (spec.way === "generate") {
    if (shape.reduce((product, length) => product * length, 1) > MOST_ENTRIES)
      throw new Unreadable("read.large", { shape: shapeText(shape) });
    return generate(spec.kind, shape, spec.settings, spec.seed, input);
  }
  if (spec.way === "paste") return fitted(parseText(spec.text), input);
  if (!spec.given) throw new Unreadable("read.no_file");
  return fitted(spec.given, input);
}

/** Rows or columns of one number where a vector is meant. */
function fitted(tensor, input) {
  const { shape, data } = tensor;
  if (input.shape.length === 1 && shape.length === 2 && (shape[0] === 1 || shape[1] === 1))
    return { shape: [data.length], data };
  return tensor;
}

/** The editor of an input. */
export function inputEditor(input, spec, shape, changed, ways = WAYS) {
  const body = h("div", { class: "way" });
  const draw = () => show(body, WAY[spec.way](input, spec, shape, changed, draw));
  const choose = (way) => {
    spec.way = way;
    draw();
    changed();
  };
  draw();
  return h(
    "div",
    { class: "editor" },
    segmented(
      t("input.from"),
      ways.map((way) => [way, t(`way.${way}`)]),
      spec.way,
      choose,
    ),
    body,
  );
}

/** Radio buttons that look like one switch. */
export function segmented(label, options, chosen, choose) {
  const name = `segment-${Math.random().toString(36).slice(2)}`;
  return h(
    "fieldset",
    { class: "segmented" },
    h("legend", { class: "unseen" }, label),
    options.map(([value, text]) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name, value, checked: value === chosen, onchange: () => choose(value) }),
        h("span", {}, text),
      ),
    ),
  );
}

const WAY = {
  generate(input, spec, shape, changed, draw) {
    const kind = KINDS[spec.kind];
    const pick = (name) => {
      Object.assign(spec, { kind: name, settings: {} });
      draw();
      changed();
    };
    const again = () => {
      spec.seed = (spec.seed % 9999) + 1;
      changed();
    };
    return [
      field(
        t("input.kind"),
        grouped(
          kindGroups(input).map(([group, kinds]) => [
            t(`kinds.${group}`),
            kinds.map((name) => [name, t(`kind.${name}`)]),
          ]),
          spec.kind,
          pick,
        ),
        known(`about.${spec.kind}`) ? t(`about.${spec.kind}`) : null,
      ),
      kind.decays
        ? field(
            t("input.decay"),
            select(
              kind.decays.map((name) => [name, t(`decay.${name}`)]),
              spec.settings.decay ?? "geometric",
              (name) => {
                spec.settings.decay = name;
                changed();
              },
            ),
          )
        : null,
      kind.sliders(shape).map((entry) =>
        slider(t(`setting.${entry.name}`), { ...entry, value: spec.settings[entry.name] ?? entry.value }, (value) => {
          spec.settings[entry.name] = value;
          changed();
        }),
      ),
      isRandom(spec.kind) ? h("button", { type: "button", class: "quiet", onclick: again }, t("input.again")) : null,
    ];
  },

  example(input, spec, _, changed) {
    const told = (off) => (off > MOST_OFF ? t("verify.none") : small(10 ** off));
    return slider(
      t("verify.off"),
      { min: -12, max: MOST_OFF + 1, step: 1, value: spec.settings.off || MOST_OFF + 1, told },
      (off) => {
        spec.settings.off = off > MOST_OFF ? 0 : off;
        changed();
      },
    );
  },

  paste(input, spec, _, changed) {
    const area = h("textarea", {
      rows: 7,
      spellcheck: "false",
      "aria-label": t("way.paste"),
      placeholder: "4 1\n1 3\n\n4, 1\n1, 3\n\n[[4, 1], [1, 3]]",
      value: spec.text,
      oninput: () => {
        spec.text = area.value;
        changed();
      },
    });
    return [area, h("small", {}, t("input.paste_note", { shape: `(${input.shape.join(", ")})` }))];
  },

  file(input, spec, _, changed, draw) {
    const problem = h("p", { class: "wrong", role: "alert" });
    const take = async (file) => {
      if (!file) return;
      try {
        Object.assign(spec, { given: await parseFile(file), name: file.name });
        draw();
        changed();
      } catch (error) {
        problem.textContent = error instanceof Unreadable ? t(error.word, error.values) : String(error);
      }
    };
    const chooser = h("input", {
      type: "file",
      accept: ".npy,.csv,.txt,.json,.mtx",
      onchange: () => take(chooser.files[0]),
    });
    const zone = h(
      "label",
      { class: "drop" },
      h("span", {}, spec.given ? `${spec.name} · ${shapeText(spec.given.shape)}` : t("input.drop")),
      chooser,
    );
    zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      take(event.dataTransfer.files[0]);
    });
    return [zone, problem];
  },
};

/** The name of an input and what it is. */
export function inputTitle(input) {
  return h("span", {}, h("code", {}, input.name), ` ${c(input.summary)}`);
}
