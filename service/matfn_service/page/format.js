// Numbers in few characters.

/** A number to so many digits, in powers of ten where that is shorter. */
export function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(digits - 1).replace("e+", "e");
  return String(Number(value.toPrecision(digits)));
}

/** An error: one digit after the point and a power of ten. */
export function small(value) {
  if (value === null || value === undefined) return "–";
  return value === 0 ? "0" : value.toExponential(1).replace("e+", "e");
}

/** Milliseconds. */
export function milliseconds(value) {
  return value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;
}

/** Seconds, of any size. */
export function seconds(value) {
  return value < 1e-4 ? `${number(value * 1e6, 2)} µs` : milliseconds(value * 1e3);
}

/** Bytes. */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  let rest = value;
  while (rest >= 1024 && place < units.length - 1) {
    rest /= 1024;
    place += 1;
  }
  return `${place && rest < 100 ? rest.toFixed(1) : rest.toFixed(0)} ${units[place]}`;
}

/** 32 × 48. */
export function shapeText(shape) {
  return shape.length ? shape.join(" × ") : "1";
}
