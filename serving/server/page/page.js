"use strict";

// The row's form is made of the OpenAPI document, which is made of the served model's own inputs.
// An address that ends in #row={...} (encoded) is a row that is scored at once, so that a row can be passed on.

const of = (id) => document.getElementById(id);
const KINDS = { string: "text", number: "number", integer: "number", boolean: "true or false", array: "list", null: "missing" };

function cell(row, text, kind) {
  const made = document.createElement("td");
  made.textContent = text;
  if (kind) made.className = kind;
  row.append(made);
  return made;
}

function kindOf(value) {
  if (value === null || value === undefined) return "missing";
  return Array.isArray(value) ? "list" : KINDS[typeof value];
}

function addColumn(name, schema, required) {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = name + (required ? "" : " (may be left out)");
  row.append(head);
  const kind = document.createElement("select");
  kind.setAttribute("aria-label", `kind of ${name}`);
  for (const label of new Set([].concat(schema.type).map((type) => KINDS[type]))) kind.append(new Option(label, label));
  if (!required && ![...kind.options].some((option) => option.value === "missing")) kind.append(new Option("missing", "missing"));
  const value = document.createElement("input");
  value.setAttribute("aria-label", `value of ${name}`);
  value.autocomplete = "off";
  kind.addEventListener("change", () => { value.disabled = kind.value === "missing"; });
  cell(row, "").append(kind);
  cell(row, "").append(value);
  cell(row, schema.description || "", "muted");
  row.dataset.column = name;
  of("columns").append(row);
}

function fill(values) {
  for (const row of of("columns").children) {
    const [kind, input] = [row.querySelector("select"), row.querySelector("input")];
    const value = values[row.dataset.column];
    kind.value = kindOf(value);
    input.value = kind.value === "missing" ? "" : kind.value === "list" ? JSON.stringify(value) : String(value);
    input.disabled = kind.value === "missing";
  }
}

function valueOf(name, kind, text) {
  if (kind === "missing") return null;
  if (kind === "text") return text;
  let value;
  try { value = JSON.parse(text); } catch { value = undefined; }
  if (value === undefined || kindOf(value) !== kind) {
    const like = { number: "1.5", "true or false": "true", list: '["a", "b"]' }[kind];
    throw new Error(`${name}: ${text || "nothing"} is no ${kind}; write it like ${like}.`);
  }
  return value;
}

function row() {
  const found = {};
  for (const each of of("columns").children) {
    const name = each.dataset.column;
    found[name] = valueOf(name, each.querySelector("select").value, each.querySelector("input").value);
  }
  return found;
}

function signed(number) { return (number < 0 ? "" : "+") + number.toFixed(4); }

function bar(number, largest) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  const width = 60 * Math.abs(number) / largest;
  for (const [key, value] of [["width", 122], ["height", 14], ["aria-hidden", "true"]]) drawing.setAttribute(key, value);
  const made = document.createElementNS(space, "rect");
  for (const [key, value] of [["x", number < 0 ? 61 - width : 61], ["y", 2], ["width", width], ["height", 10]]) made.setAttribute(key, value);
  made.setAttribute("class", number < 0 ? "down" : "up");
  drawing.append(made);
  return drawing;
}

function show(found) {
  of("probability").textContent = found.probability.toFixed(6);
  of("probability").dataset.exact = String(found.probability);
  of("logit").textContent = signed(found.logit);
  of("base").textContent = signed(found.base);
  of("by").textContent = `${found.version}, counters as of ${found.counters_as_of}`;
  const largest = Math.max(...found.contributions.map((one) => Math.abs(one.logit)), 1e-9);
  of("contributions").replaceChildren(...found.contributions.map((one) => {
    const made = document.createElement("tr");
    cell(made, signed(one.logit), "number");
    cell(made, "").append(bar(one.logit, largest));
    cell(made, one.part);
    const x = one.x === null ? "" : ` (x = ${Number(one.x.toPrecision(4))})`;
    cell(made, one.name + x + (one.shared ? `; ${one.shared}` : ""));
    return made;
  }));
  of("counts").replaceChildren(...found.counts.map((one) => {
    const made = document.createElement("tr");
    for (const text of [one.frequency, one.window, one.keys]) cell(made, text);
    for (const number of [one.impressions, one.positives]) cell(made, String(number), "number");
    return made;
  }));
  of("answer").hidden = false;
}

async function ask() {
  of("problem").textContent = "";
  of("answer").hidden = true;
  of("ask").disabled = true;
  of("state").textContent = "asking …";
  try {
    const asked = JSON.stringify({ row: row() });
    const answer = await fetch("/explain", { method: "POST", headers: { "Content-Type": "application/json" }, body: asked });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    show(found);
  } catch (error) {
    of("problem").textContent = error.message;
  } finally {
    of("ask").disabled = false;
    of("state").textContent = "";
  }
}

async function begin() {
  try {
    const [state, described] = await Promise.all(["/readyz", "/openapi.json"].map(async (path) => (await fetch(path)).json()));
    const problems = state.problems.length ? ` ${state.problems.join(" ")}` : "";
    of("served").textContent = `${state.version}, counters as of ${state.counters_as_of}, since ${state.since}.${problems}`;
    const schema = described.components.schemas.Row;
    for (const [name, column] of Object.entries(schema.properties)) addColumn(name, column, schema.required.includes(name));
    const examples = schema.examples || [];
    examples.forEach((_, place) => of("example").append(new Option(`golden row ${place + 1}`, place)));
    of("example").addEventListener("change", () => fill(examples[of("example").value] || {}));
    fill(examples[0] || {});
    if (examples.length) of("example").value = "0";
    const given = decodeURIComponent(location.hash).match(/^#row=(.*)$/s);
    if (given) {
      of("example").value = "";
      fill(JSON.parse(given[1]));
      await ask();
    }
  } catch (error) {
    of("problem").textContent = error.message;
  }
}

of("form").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
begin();
