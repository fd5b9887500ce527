// What the other scripts make the page of: questions to the JSON views, elements, and numbers and times as text.
// All that comes from a view is put in as text, never as HTML: a key or a feature's name is whatever a producer
// sent.

export const $ = (id) => document.getElementById(id);

class ApiError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

export async function ask(path) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: "Bearer " + token } : {};
  const response = await fetch(path, { headers, signal: AbortSignal.timeout(10000) });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, body.error || "status " + response.status);
  return body;
}

// element("td", "class", child, child ...): children are elements or text
export function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

// svg("line", {x1: 0, ...}, child ...)
export function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Columns whose name begins with # hold numbers.
export function table(caption, columns, rows) {
  const made = element("table", "");
  if (caption) made.append(element("caption", "", caption));
  const className = (column) => (column.startsWith("#") ? "right" : "");
  const head = columns.map((column) => {
    const cell = element("th", className(column), column.replace("#", ""));
    cell.scope = "col";
    return cell;
  });
  made.append(element("thead", "", element("tr", "", ...head)));
  const body = rows.map((row) =>
    element("tr", "", ...row.map((cell, i) => element("td", className(columns[i]), cell ?? "–"))));
  made.append(element("tbody", "", ...body));
  return made;
}

const whole = new Intl.NumberFormat("en");
export function number(value, digits = 5) {
  if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
  if (Number.isInteger(value)) return whole.format(value);
  const size = Math.abs(value);
  if (size >= 1e7 || size < 1e-4) return value.toExponential(Math.min(digits, 4) - 1);
  const before = Math.floor(Math.log10(size)) + 1; // digits before the point are never dropped
  return String(+value.toPrecision(Math.max(digits, before)));
}

// Probabilities and distances: three digits say it all, and columns stay narrow.
export const score = (value) => number(value, 3);

// Hashes are known by their first characters; names such as that of the built-in detector stand as they are.
export const short = (version) => (/^[0-9a-f]{12,}$/.test(version) ? version.slice(0, 8) : String(version).slice(0, 20));

export function time(seconds) {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? number(seconds) : date.toISOString().slice(0, 19).replace("T", " ");
}

export const plural = (n, word) => number(n) + " " + word + (n === 1 ? "" : "s");
