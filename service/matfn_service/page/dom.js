// Elements in one expression, for HTML and SVG.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; attributes named on... are listeners, null and false ones are left out. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else if (name === "checked") element.checked = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Replaces what an element holds. */
export function show(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

let named = 0;

/** A name that no other element has. */
export function fresh(prefix) {
  named += 1;
  return `${prefix}-${named}`;
}

/** A label with its control, and what there is to say of it. */
export function field(label, control, note = null) {
  control.id ||= fresh("field");
  const told = note ? h("small", { id: fresh("note") }, note) : null;
  if (told) control.setAttribute("aria-describedby", told.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, told);
}

/** A list to choose from; options are [value, text]. */
export function select(options, chosen, onchange) {
  const control = h("select", { onchange: () => onchange(control.value) });
  control.append(...options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return control;
}

/** A list to choose from, in groups of [label, options]; a single group needs no label. */
export function grouped(groups, chosen, onchange) {
  if (groups.length === 1) return select(groups[0][1], chosen, onchange);
  const control = h("select", { onchange: () => onchange(control.value) });
  for (const [label, options] of groups)
    control.append(
      h(
        "optgroup",
        { label },
        options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
      ),
    );
  return control;
}

/** A slider that shows its value. */
export function slider(label, { min, max, step = 1, value, told = String }, oninput) {
  const output = h("output", {}, told(value));
  const control = h("input", { type: "range", min, max, step, value, "aria-valuetext": told(value) });
  control.addEventListener("input", () => {
    output.textContent = told(Number(control.value));
    control.setAttribute("aria-valuetext", output.textContent);
    oninput(Number(control.value));
  });
  control.id = fresh("slider");
  return h("div", { class: "field slider" }, h("label", { for: control.id }, label), control, output);
}

/** Downloads octets as a file. */
export function save(name, content, type = "application/octet-stream") {
  const url = URL.createObjectURL(new Blob([content], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
