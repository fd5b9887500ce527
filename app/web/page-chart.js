// A chart of one measure over time, a line for each model version, with marks where something was decided.
// How a line looks says what its version was then: thick while it served, dashed as a challenger, faint after.

import { element, svg } from "./page-elements.js";

const HEIGHT = 350, FLAT = 250, LEFT = 44, RIGHT = 14, BOTTOM = 40, MARK_ROW = 17, CHARACTER = 7.1;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800];

function clock(seconds, step) {
  const text = new Date(seconds * 1000).toISOString();
  if (step >= 86400) return text.slice(5, 10);
  return step >= 60 ? text.slice(11, 16) : text.slice(11, 19);
}

function timeTicks(start, end, n) {
  const step = STEPS.find((one) => (end - start) / one <= n) ?? Math.ceil((end - start) / n / 604800) * 604800;
  const ticks = [];
  for (let at = Math.ceil(start / step) * step; at <= end; at += step) ticks.push([at, clock(at, step)]);
  return ticks;
}

function valueScale(values, share) {
  const lowest = Math.min(...values), highest = Math.max(...values);
  if (share) {
    const low = Math.max(0, Math.min(0.9, Math.floor(lowest * 10 - 0.1) / 10));
    return { low, high: 1, step: low < 0.4 ? 0.2 : low < 0.75 ? 0.1 : low < 0.85 ? 0.05 : 0.02 };
  }
  const size = 10 ** Math.floor(Math.log10(highest || 1));
  const step = [0.2, 0.5, 1, 2, 5].map((one) => one * size).find((one) => highest / one <= 6);
  return { low: 0, high: Math.ceil((1.02 * highest || 1) / step) * step, step };
}

// Neighbours that stand for one role become one path; a gap much longer than usual is left open.
function paths(points, x, y) {
  const gaps = points.slice(1).map((point, i) => point.time - points[i].time).sort((a, b) => a - b);
  const longest = 8 * (gaps[gaps.length >> 1] ?? 0) + 1;
  const runs = [];
  points.forEach((point, i) => {
    const before = points[i - 1];
    const place = `${x(point.time).toFixed(1)} ${y(point.value).toFixed(1)}`;
    const broken = !before || point.time - before.time > longest;
    if (broken || before.serves !== point.serves || before.role !== point.role) {
      // A change of role begins where the line was, so that it has no hole.
      const from = broken ? place : `${x(before.time).toFixed(1)} ${y(before.value).toFixed(1)}`;
      runs.push({ role: point.serves ? "champion" : point.role, d: `M${from}L${place}` });
    } else {
      runs[runs.length - 1].d += "L" + place;
    }
  });
  return runs;
}

// Marks get rows above the plot, as many as they need not to cover each other's text.
function placeMarks(marks, x, width) {
  const ends = [];
  return marks.map((mark) => {
    const size = mark.text.length * CHARACTER + 10;
    const at = x(mark.time);
    const start = Math.min(Math.max(at - size / 2, 0), width - size);
    let row = ends.findIndex((end) => end < start);
    if (row < 0) row = ends.length;
    ends[row] = start + size;
    return { ...mark, at, row, start, size };
  });
}

// lines: [{id, name, colour, points: [{time, value, role, serves}]}], marks: [{time, kind, text}]
export class Chart {
  constructor(box) {
    this.box = box;
    this.pointer = null;
    this.drawn = null;
    this.tip = element("div", "tip");
    this.tip.hidden = true;
    this.picture = svg("svg", { role: "img" });
    box.replaceChildren(this.picture, this.tip);
    box.addEventListener("pointermove", (event) => {
      this.pointer = event.clientX - this.box.getBoundingClientRect().left;
      this.showTip();
    });
    box.addEventListener("pointerleave", () => { this.pointer = null; this.showTip(); });
    new ResizeObserver(() => { if (this.data && this.box.clientWidth !== this.width) this.draw(this.data); }).observe(box);
  }

  draw(data) {
    this.data = data;
    const { lines, marks, share, label } = data;
    const width = (this.width = Math.max(this.box.clientWidth, 240));
    const points = lines.flatMap((line) => line.points);
    const times = points.map((point) => point.time).sort((a, b) => a - b);
    const start = times[0], last = times.at(-1), end = Math.max(last, start + 5);
    const x = (time) => LEFT + ((width - LEFT - RIGHT) * (time - start)) / (end - start);
    const shown = placeMarks(marks.filter((mark) => mark.time >= start && mark.time <= end + 5), x, width);
    const top = 10 + MARK_ROW * Math.max(0, ...shown.map((mark) => mark.row + 1));
    const height = (width < 500 ? FLAT : HEIGHT) + top, floor = height - BOTTOM;
    const { low, high, step } = valueScale(points.map((point) => point.value), share);
    const y = (value) => floor - ((floor - top) * (Math.max(value, low) - low)) / (high - low);
    const made = [];
    for (let value = low; value <= high + 1e-9; value += step) {
      made.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
        svg("text", { class: "tick end", x: LEFT - 8, y: y(value) + 4 }, share ? value.toFixed(step < 0.1 ? 2 : 1) : String(+value.toPrecision(3))));
    }
    for (const [at, text] of timeTicks(start, end, Math.max(2, Math.floor(width / 110)))) {
      made.push(svg("text", { class: "tick middle", x: Math.min(x(at), width - 26), y: height - 8 }, text));
    }
    for (const mark of shown) {
      const base = 4 + MARK_ROW * mark.row;
      made.push(svg("line", { class: "mark " + mark.kind, x1: mark.at, x2: mark.at, y1: base + MARK_ROW - 4, y2: floor }),
        svg("rect", { class: "flag " + mark.kind, x: mark.start, y: base, width: mark.size, height: MARK_ROW - 2, rx: 4 }),
        svg("text", { class: "flag-text middle " + mark.kind, x: mark.start + mark.size / 2, y: base + 11.5 }, mark.text));
    }
    for (const line of lines) {
      for (const run of paths(line.points, x, y)) {
        made.push(svg("path", { class: `line ${line.colour} ${run.role}`, d: run.d }));
      }
      if (line.points.length === 1) {
        made.push(svg("circle", { class: "dot " + line.colour, cx: x(line.points[0].time), cy: y(line.points[0].value), r: 3 }));
      }
    }
    made.push(...this.serving(lines, x, floor, last));
    this.cursor = svg("line", { class: "cursor", y1: top, y2: floor, x1: -9, x2: -9 });
    this.picture.replaceChildren(...made, this.cursor);
    this.picture.setAttribute("width", width);
    this.picture.setAttribute("height", height);
    this.picture.setAttribute("aria-label", label);
    this.drawn = { lines, x, start, end };
    this.showTip();
  }

  // The bar under the plot: who served when.
  serving(lines, x, floor, last) {
    const served = lines
      .flatMap((line) => line.points.map((point) => ({ ...point, colour: line.colour })))
      .filter((point) => point.serves)
      .sort((a, b) => a.time - b.time);
    return served.flatMap((point, i) => {
      if (i && served[i - 1].colour === point.colour) return [];
      const next = served.slice(i).find((one) => one.colour !== point.colour);
      const from = x(point.time), to = x(next ? next.time : last);
      return [svg("rect", { class: "served " + point.colour, x: from, y: floor + 5, width: Math.max(to - from, 2), height: 6, rx: 2 })];
    });
  }

  showTip() {
    if (!this.drawn || this.pointer === null) {
      this.tip.hidden = true;
      this.cursor?.setAttribute("class", "cursor off");
      return;
    }
    const { lines, x, start, end } = this.drawn;
    const span = x(end) - LEFT;
    const moment = start + ((Math.min(Math.max(this.pointer, LEFT), x(end)) - LEFT) / span) * (end - start);
    const rows = lines.flatMap((line) => {
      const point = line.points.reduce((best, one) =>
        (Math.abs(one.time - moment) < Math.abs(best.time - moment) ? one : best), line.points[0]);
      if (Math.abs(point.time - moment) > 0.04 * (end - start) + 1) return [];
      return [[point.value, element("div", "row", element("span", "swatch " + line.colour), element("span", "mono", line.name),
        element("strong", "end", point.value.toPrecision(3)))]];
    });
    rows.sort((a, b) => b[0] - a[0]);
    this.tip.replaceChildren(element("div", "soft", new Date(moment * 1000).toISOString().slice(11, 19)), ...rows.map((row) => row[1]));
    this.tip.hidden = !rows.length;
    const at = x(moment);
    this.cursor.setAttribute("class", "cursor");
    this.cursor.setAttribute("x1", at);
    this.cursor.setAttribute("x2", at);
    const wide = this.tip.offsetWidth;
    this.tip.style.left = `${at + wide + 24 > this.width ? at - wide - 12 : at + 12}px`;
  }
}
