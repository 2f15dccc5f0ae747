// A call in the address: #playground?f=inv_root&... Matrices that were generated, or pasted and short, come along.

const LONGEST = 4000;

/** The call that the address names: { name, call, text }; null where it names none. */
export function readLink() {
  const [tab, query] = location.hash.slice(1).split("?");
  if (tab !== "playground" || !query) return null;
  const given = new URLSearchParams(query);
  const name = given.get("f");
  if (!name) return null;
  const call = {};
  for (const [key, field] of Object.entries({ p: "params", o: "options", n: "sizes", in: "inputs" })) {
    const value = parsed(given.get(key));
    if (value) call[field] = value;
  }
  if (given.get("d")) call.dtype = given.get("d");
  return { name, call, text: query };
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

/** Puts the call into the address, without a new entry in the history; returns the text. */
export function writeLink(call) {
  const inputs = {};
  for (const [name, spec] of Object.entries(call.inputs)) {
    const { way, kind, settings, seed, used } = spec;
    inputs[name] = { way, kind, seed, used };
    if (Object.keys(settings).length) inputs[name].settings = settings;
    if (way === "paste" && spec.text.length <= LONGEST) inputs[name].text = spec.text;
  }
  const query = new URLSearchParams({
    f: call.name,
    d: call.dtype,
    n: JSON.stringify(call.sizes),
    in: JSON.stringify(inputs),
  });
  if (Object.keys(call.params).length) query.set("p", JSON.stringify(call.params));
  if (Object.keys(call.options).length) query.set("o", JSON.stringify(call.options));
  const text = query.toString();
  history.replaceState(null, "", `#playground?${text}`);
  return text;
}
