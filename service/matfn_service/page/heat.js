// Heat maps of matrices on canvas; arrow keys and the pointer read single entries.

import { fresh, h } from "./dom.js";
import { number, shapeText } from "./format.js";
import { t } from "./words.js";

const MOST = 512;
const TALLEST = 420; // pixels on the screen

function palette() {
  const dark = document.documentElement.dataset.theme === "dark";
  return dark
    ? { zero: [22, 25, 31], positive: [255, 142, 92], negative: [98, 150, 255], none: [255, 0, 200] }
    : { zero: [252, 251, 248], positive: [180, 30, 44], negative: [48, 74, 190], none: [255, 0, 200] };
}

/** Rows and columns of a tensor of any dimension, as it is drawn: leading dimensions lie one below the other. */
function flat({ shape, data }) {
  if (shape.length === 0) return { rows: 1, columns: 1, data };
  const columns = shape.at(-1);
  return { rows: data.length / columns, columns, data };
}

/** A figure of a matrix with its name and the range of its colours. */
export function heatMap(name, tensor, note = "") {
  const { rows, columns, data } = flat(tensor);
  const largest = data.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
  const reading = h(
    "output",
    { class: "reading", id: fresh("reading") },
    t("heat.range", { largest: number(largest) }),
  );
  const canvas = h("canvas", {
    tabindex: 0,
    role: "img",
    "aria-label": t("heat.label", { name, shape: shapeText(tensor.shape), largest: number(largest) }),
    "aria-describedby": reading.id,
  });
  const stride = Math.ceil(Math.max(rows, columns) / MOST);
  canvas.width = Math.ceil(columns / stride);
  canvas.height = Math.ceil(rows / stride);
  const isFlat = tensor.shape.length === 1 || rows / columns < 0.2;
  if (!isFlat) canvas.style.maxWidth = `${Math.round((TALLEST * canvas.width) / canvas.height)}px`;
  paint(canvas, { rows, columns, data, stride, largest });
  addReading(canvas, reading, { rows, columns, data, stride });
  const kept = stride > 1 ? t("heat.every", { stride }) : "";
  return h(
    "figure",
    { class: isFlat ? "heat flat" : "heat" },
    h("figcaption", {}, h("b", {}, name), ` ${shapeText(tensor.shape)} `, h("span", { class: "muted" }, note, kept)),
    canvas,
    reading,
  );
}

function paint(canvas, { rows, columns, data, stride, largest }) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const { zero, positive, negative, none } = palette();
  for (let i = 0, at = 0; i < rows; i += stride)
    for (let j = 0; j < columns; j += stride, at += 4) {
      const value = data[i * columns + j];
      const share = largest > 0 ? Math.sqrt(Math.min(1, Math.abs(value) / largest)) : 0;
      const full = value < 0 ? negative : positive;
      for (let part = 0; part < 3; part += 1)
        image.data[at + part] = Number.isFinite(value) ? zero[part] + share * (full[part] - zero[part]) : none[part];
      image.data[at + 3] = 255;
    }
  context.putImageData(image, 0, 0);
}

function addReading(canvas, reading, { rows, columns, data, stride }) {
  let [row, column] = [0, 0];
  const tell = () => {
    reading.textContent = `[${row}, ${column}] = ${number(data[row * columns + column], 6)}`;
  };
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    row = Math.min(
      rows - 1,
      Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * canvas.height) * stride),
    );
    column = Math.min(
      columns - 1,
      Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * canvas.width) * stride),
    );
    tell();
  });
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    row = Math.min(rows - 1, Math.max(0, row + move[0]));
    column = Math.min(columns - 1, Math.max(0, column + move[1]));
    tell();
  });
}
