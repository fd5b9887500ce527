// Models on labelled events: how good each version is and was, what was decided about it, what drifts, what trains.

import { Chart } from "./page-chart.js";
import { $, element, number, plural, short, svg, table, time } from "./page-elements.js";

const FEW_LABELS = 30, N_DECISIONS = 15, MAX_CLASSES = 6;
const ROLES = ["champion", "challenger", "online", "built-in", "former"];
const METRICS = {
  classification: [["accuracy", "accuracy"], ["balanced", "balanced_accuracy"], ["precision", "precision"],
    ["recall", "recall"], ["F1", "f1"], ["log loss", "log_loss"], ["ROC AUC", "roc_auc"]],
  regression: [["MAE", "mae"], ["RMSE", "rmse"], ["R²", "r2"]],
};
// The chart's measures, as the history has them.
const MEASURES = {
  classification: [["accuracy", "accuracy"], ["balanced_accuracy", "balanced accuracy"], ["f1", "F1"], ["roc_auc", "ROC AUC"]],
  regression: [["rmse", "root mean squared error"], ["mae", "mean absolute error"]],
};
const SHARES = new Set(["accuracy", "balanced_accuracy", "f1", "roc_auc"]);
const PAST = { promote: "promoted", rollback: "rolled back", challenge: "challenges", retire: "retired", split: "split" };

const colours = new Map();  // of a version, for as long as the page is open
const drifted = new Map();  // times at which drift fired, by partition or alert: a view only knows what is new
const shown = new Map();    // what each part shows, so that what did not change keeps its selection and focus
const chosen = {};          // the measure that was chosen, by task
let chart = null, charted = null;

const clock = (seconds) => time(seconds).slice(11);
const fixed = (value) => (typeof value === "number" ? (Math.abs(value) < 1000 ? value.toFixed(3) : number(value)) : "–");
const tiny = (p) => (p === null || p === undefined ? "–" : p < 1e-300 ? "< 1e-300" : p < 0.001 ? p.toExponential(0) : p.toFixed(3));

function colourOf(model, version, role) {
  const id = model + " " + version;
  if (!colours.has(id)) {
    const n = [...colours.values()].filter((colour) => colour !== "c0").length;
    colours.set(id, role === "built-in" || /^builtin/.test(version) ? "c0" : "c" + (1 + (n % 6)));
  }
  return colours.get(id);
}

// Replaces what a part shows if it has changed, and hides it while there is nothing.
function put(id, content, make) {
  const key = JSON.stringify(content);
  if (shown.get(id) === key) return;
  shown.set(id, key);
  const made = make();
  $(id).hidden = !made.length;
  const [body] = $(id).getElementsByClassName("body");
  body.replaceChildren(...made);
}

function versionName({ model, version, role }) {
  return element("span", "row tight", element("span", "swatch " + colourOf(model, version, role)),
    element("strong", "mono", short(version)), element("span", "soft", model));
}

function roleBadge(role) {
  const kind = { champion: "good", challenger: "", online: "", former: "dim", "built-in": "dim" }[role] ?? "dim";
  return element("span", "badge " + kind, role);
}

// What the chart may show is what the newest point of the champion has; the first is shown until another is chosen.
function offerMeasures(history) {
  const newest = history.findLast((one) => one.role === "champion") ?? history.at(-1) ?? {};
  const task = typeof newest.rmse === "number" ? "regression" : "classification";
  const offered = MEASURES[task].filter(([key]) => typeof newest[key] === "number");
  if (!offered.some(([key]) => key === chosen[task])) chosen[task] = offered[0]?.[0] ?? MEASURES[task][0][0];
  const select = $("measure"), key = JSON.stringify([task, offered]);
  if (select.dataset.offered !== key) {
    select.dataset.offered = key;
    select.replaceChildren(...offered.map(([name, words]) => {
      const made = element("option", "", words);
      made.value = name;
      return made;
    }));
    select.value = chosen[task];
    select.onchange = () => { chosen[task] = select.value; showChart(...charted); };
  }
  return chosen[task];
}

function linesOf(history, measure) {
  const lines = new Map();
  const sorted = history.filter((one) => typeof one[measure] === "number").sort((a, b) => a.time - b.time);
  for (const one of sorted) {
    const id = one.model + " " + one.version;
    const colour = colourOf(one.model, one.version, one.role);
    if (!lines.has(id)) lines.set(id, { id, name: short(one.version), model: one.model, colour, points: [] });
    lines.get(id).points.push({ time: one.time, value: one[measure], role: one.role, n: one.n_labels });
  }
  // The built-in detector serves until a model does.
  const first = Math.min(...sorted.filter((one) => one.role === "champion").map((one) => one.time));
  for (const line of lines.values()) {
    for (const point of line.points) point.serves = point.role === "champion" || (point.role === "built-in" && point.time < first);
    // The first few labels say next to nothing, and would set the scale.
    const sure = line.points.filter((point) => point.n >= FEW_LABELS);
    if (sure.length) line.points = sure;
    line.role = line.points.at(-1).role;
  }
  return [...lines.values()];
}

function marksOf(decisions, drift, alerts) {
  const marks = decisions.filter((one) => one.action === "promote" || one.action === "rollback")
    .map((one) => ({ time: one.at, kind: one.action, text: `${short(one.version)} ${PAST[one.action]}` }));
  for (const { partition, state, since } of drift) {
    if (state === "firing" && typeof since === "number") drifted.set(`${partition} ${Math.round(since)}`, since);
  }
  for (const { rule, state, timestamp, id } of alerts) {
    if (state === "firing" && /drift$/.test(rule)) drifted.set(id, timestamp);
  }
  // Partitions fire a moment after one another: one mark for all of them.
  let last = -Infinity;
  for (const since of [...drifted.values()].sort((a, b) => a - b)) {
    if (since - last > 15) marks.push({ time: since, kind: "drift", text: "drift" });
    last = since;
  }
  return marks.sort((a, b) => a.time - b.time);
}

function showChart({ history, decisions, drift }, alerts) {
  charted = [{ history, decisions, drift }, alerts];
  const measure = offerMeasures(history), lines = linesOf(history, measure);
  $("chart-part").hidden = !lines.length;
  if (!lines.length) return;
  const marks = marksOf(decisions, drift, alerts);
  const share = SHARES.has(measure);
  $("legend").replaceChildren(...lines
    .sort((a, b) => ROLES.indexOf(a.role) - ROLES.indexOf(b.role))
    .map((line) => element("li", "row tight", element("span", "swatch " + line.colour), element("span", "mono", line.name),
      element("span", "soft", line.model === line.role ? line.role : `${line.model}, ${line.role}`), element("strong", "", fixed(line.points.at(-1).value)))));
  chart ??= new Chart($("chart"));
  const label = `${measure} over time of ${plural(lines.length, "version")}: ` +
    lines.map((line) => `${line.name} (${line.role}) ${fixed(line.points.at(-1).value)}`).join(", ") + "; " +
    marks.map((mark) => `${mark.text} at ${clock(mark.time)}`).join(", ");
  // Faint lines first: what serves is drawn over them.
  const order = [...lines].sort((a, b) => ROLES.indexOf(b.role) - ROLES.indexOf(a.role));
  chart.draw({ lines: order, marks, share, label });
}

function twoFold(window, ever) {
  return element("span", "two", element("span", "", fixed(window)), element("span", "soft", fixed(ever)));
}

function versionsTable(evaluations, task, groups) {
  const metrics = METRICS[task] ?? [];
  const columns = ["version", groups ? "group" : "role", "#labels", ...metrics.map(([name]) => "#" + name)];
  const rows = evaluations.map((one) => [
    versionName(one), groups ? one.group : roleBadge(one.role),
    element("span", "two", element("span", "", number(one.window.n_labels)), element("span", "soft", number(one.since_start.n_labels))),
    ...metrics.map(([, key]) => twoFold(one.window[key], one.since_start[key])),
  ]);
  const made = table("", columns, rows);
  evaluations.forEach((one, i) => {
    if (one.role === "champion" && !groups) made.tBodies[0].rows[i].className = "serving";
  });
  return element("div", "scroll", made);
}

function showVersions({ evaluations }) {
  const rank = (one) => ROLES.indexOf(one.role);
  const sorted = [...evaluations].sort((a, b) => rank(a) - rank(b) || a.group.localeCompare(b.group));
  const all = sorted.filter((one) => !one.group), grouped = sorted.filter((one) => one.group);
  put("versions", sorted, () => {
    const made = [];
    for (const task of Object.keys(METRICS)) {
      const rows = all.filter((one) => one.task === task);
      if (rows.length) made.push(versionsTable(rows, task, false));
    }
    for (const task of Object.keys(METRICS)) {
      const rows = grouped.filter((one) => one.task === task);
      if (rows.length) made.push(element("h4", "", "By group of entities"), versionsTable(rows, task, true));
    }
    return made;
  });
}

function matrixOf(one) {
  const { classes, confusion_matrix: rows } = one.window;
  const total = rows.map((row) => row.reduce((a, b) => a + b, 0));
  const head = element("tr", "", element("th", "soft", "label ↓ predicted →"), ...classes.map((name) => element("th", "right", name)));
  const body = rows.map((row, i) => element("tr", "", element("th", "", classes[i]), ...row.map((n, j) => {
    const share = total[i] ? n / total[i] : 0;
    // Shades are classes: the page's policy forbids styles that stand in it.
    const cell = element("td", `right shade${Math.ceil(share * 5)} ${i === j ? "hit" : "miss"}`, number(n));
    cell.title = `${(100 * share).toFixed(1)}% of label ${classes[i]} predicted as ${classes[j]}`;
    return cell;
  })));
  return element("table", "matrix", element("thead", "", head), element("tbody", "", ...body));
}

function showMatrix({ evaluations }) {
  const champion = evaluations.find((one) => one.role === "champion" && !one.group);
  const known = champion?.window.classes?.length && champion.window.classes.length <= MAX_CLASSES ? champion : null;
  put("matrix", known && [known.version, known.window.confusion_matrix], () => (known
    ? [matrixOf(known)] : []));
}

// The p-value is that of one look; the e-value may be looked at at any time, and decides.
const evidenceOf = (one) => `McNemar p ${tiny(one.p_value)}, e-value ${one.e_value >= 1e5 ? one.e_value.toExponential(0) : number(one.e_value, 2)}` +
  (typeof one.e_value_needed === "number" ? ` of ${number(one.e_value_needed, 3)} needed` : "");

function split(left, right) {
  const total = Math.max(left + right, 1), width = 200;
  return svg("svg", { class: "split", viewBox: `0 0 ${width} 8`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "left", x: 0, y: 0, width: (width * left) / total, height: 8 }),
    svg("rect", { class: "right", x: (width * left) / total, y: 0, width: (width * right) / total, height: 8 }));
}

function comparisonItem(one) {
  const alone = one.task === "regression" ? "closer" : "alone right";
  const name = (version) => element("strong", "mono", short(version));
  const percent = typeof one.difference === "number" ? `${one.difference < 0 ? "−" : "+"}${fixed(Math.abs(one.difference))}` : "unknown";
  return element("div", "comparison",
    element("div", "row", name(one.champion), element("span", "soft", "champion"),
      element("span", "badge end " + (one.better ? "good" : "dim"), one.better ? "challenger is better" : "not shown to be better")),
    element("div", "row", name(one.challenger), element("span", "soft", "challenger")),
    split(one.champion_only, one.challenger_only),
    element("div", "row soft", element("span", "", `${number(one.champion_only)} ${alone}`),
      element("span", "end", `${number(one.challenger_only)} ${alone}`)),
    element("div", "", `difference ${percent} on ${plural(one.n_labels, "label")}`),
    element("div", "soft", evidenceOf(one)));
}

// Those that are going on; without one, how the champion came to serve.
function showComparisons({ comparisons, evaluations }) {
  const current = comparisons.filter((one) => one.current);
  const champion = evaluations.find((one) => one.role === "champion")?.version;
  const rows = current.length ? current : comparisons.filter((one) => one.challenger === champion);
  $("comparison-title").textContent = current.length ? "Champion against challenger" : "How the champion came to serve";
  put("comparison", rows, () => rows.map(comparisonItem));
}

function showTraining({ training, labels }) {
  put("training", training, () => {
    const last = training?.last;
    if (!last) return [];
    const running = training.state === "running";
    const words = running ? `since ${clock(last.started_at)}` : `${last.outcome}, ${clock(last.started_at)} to ${clock(last.finished_at)}`;
    return [element("div", "row", element("span", "badge " + (running ? "" : "dim"), training.state), element("span", "", words)),
      ...(last.reason ? [element("p", "soft", `Because of ${last.reason}.`)] : []),
      ...(last.output?.length ? [element("p", "soft output", last.output.join("\n"))] : [])];
  });
  const counts = Object.entries(labels).filter(([name, n]) => name !== "joined" && n > 0);
  put("labels", labels, () => (Object.values(labels).some((n) => n > 0)
    ? [element("p", "", element("strong", "", number(labels.joined ?? 0)), " joined to their predictions",
      ...counts.map(([name, n]) => `, ${number(n)} ${name}`))]
    : []));
}

// One row for each feature: partitions see the same world, and the furthest of them is shown.
function showDrift({ drift }) {
  put("drift", drift, () => {
    const furthest = new Map();
    for (const { partition, features } of drift) {
      for (const one of features ?? []) {
        if (!(furthest.get(one.feature)?.psi >= one.psi)) furthest.set(one.feature, { ...one, partition });
      }
    }
    const made = [...new Set(drift.map((one) => one.rule ?? "drift"))].map((rule) => driftState(rule, drift));
    if (!furthest.size) return made;
    const bar = (one) => svg("svg", { class: "meter", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "all", x: 0, y: 0, width: 100, height: 8 }),
      svg("rect", { class: one.drifting ? "much" : "little", x: 0, y: 0, width: Math.min(100, 200 * (one.psi || 0)), height: 8 }));
    const rows = [...furthest.values()].sort((a, b) => b.psi - a.psi)
      .map((one) => [one.feature, element("span", "row tight", bar(one), element("span", "measure", fixed(one.psi))),
        fixed(one.ks), tiny(one.p_value), one.partition]);
    return [...made, element("div", "scroll", table("", ["feature", "PSI", "#KS", "#p", "#partition"], rows))];
  });
}

function driftState(rule, drift) {
  const all = drift.filter((one) => (one.rule ?? "drift") === rule);
  const firing = all.filter((one) => one.state === "firing");
  const state = firing.length ? "firing" : all.some((one) => one.state === "quiet") ? "quiet" : all[0].state;
  const where = firing.map((one) => one.partition).join(", ");
  const since = Math.min(...firing.map((one) => one.since ?? Infinity));
  const words = !firing.length ? "" : ` on ${firing.length === 1 ? "partition" : "partitions"} ${where}` +
    (Number.isFinite(since) ? ` since ${clock(since)}` : "");
  return element("p", "row", element("span", "badge " + (firing.length ? "warning" : state === "quiet" ? "good" : "dim"), state),
    element("span", "", (rule === "drift" ? "features and score" : "errors of the champion") + words));
}

function evidenceText(evidence) {
  if (typeof evidence?.challenger_only === "number") {
    return `${number(evidence.challenger_only)} to ${number(evidence.champion_only)} where one alone was right, ` +
      `difference ${fixed(evidence.difference)}, ${evidenceOf(evidence)}`;
  }
  return Object.entries(evidence ?? {}).filter(([, value]) => value !== null && typeof value !== "object")
    .map(([name, value]) => `${name.replace(/^n_/, "").replaceAll("_", " ")} ${number(value, 4)}`).join(", ");
}

function decisionItem(one) {
  const kind = { promote: "good", rollback: "critical", retire: "dim" }[one.action] ?? "";
  const item = element("li", "", element("div", "row", element("span", "badge " + kind, one.action), versionName(one),
    ...(typeof one.share === "number" ? [element("span", "", `${number(100 * one.share, 3)}% of entities`)] : []),
    element("time", "soft end", time(one.at))));
  const why = [one.reason, evidenceText(one.evidence), one.previous ? "after " + short(one.previous) : "", "by " + one.by];
  item.append(element("p", "reasons", why.filter(Boolean).join("; ")));
  return item;
}

function showDecisions({ decisions }) {
  put("decisions", decisions.slice(0, N_DECISIONS), () => (decisions.length
    ? [element("ol", "items", ...decisions.slice(0, N_DECISIONS).map(decisionItem))] : []));
}

// What the champion, or else the newest challenger, was chosen from.
function showCandidates(models) {
  const model = models.find((one) => one.report?.candidates?.length);
  put("candidates", model && [model.version, model.report], () => {
    if (!model) return [];
    const { metric, candidates, rows } = model.report;
    $("candidates-title").textContent = `Candidates that ${short(model.version)} was chosen from`;
    const made = table("", ["candidate", "#" + metric.replace("_", " ") + " over folds", "#held out", "#fit s", "#µs/event"],
      candidates.map((one) => {
        const [mean, std] = one.cross_validation[metric] ?? [];
        const name = element("span", "", one.candidate, ...(one.refusal ? [element("span", "soft", " refused")] : []));
        return [name, typeof mean === "number" ? `${number(mean, 3)} ± ${number(std, 1)}` : "–",
          number(one.held_out[metric], 3), number(one.fit_seconds, 2), number(one.event_microseconds, 2)];
      }));
    candidates.forEach((one, i) => { if (one.state === "winner") made.tBodies[0].rows[i].className = "serving"; });
    return [element("div", "scroll", made), element("p", "soft",
      `Trained on ${number(rows?.training)} labelled events, held against ${number(rows?.held_out)} later ones.`)];
  });
}

export function showLearning(said, alerts, models) {
  if (!said) return; // asked again soon; until then what was shown stands
  const learning = { evaluations: [], comparisons: [], labels: {}, drift: [], history: [], decisions: [], ...said };
  const isEmpty = !learning.evaluations.length && !learning.history.length && !learning.drift.length &&
    !learning.decisions.length && !Object.values(learning.labels).some((n) => n > 0);
  $("learning").hidden = isEmpty;
  if (isEmpty) return;
  showChart(learning, alerts);
  showVersions(learning);
  showMatrix(learning);
  showTraining(learning);
  showComparisons(learning);
  showDrift(learning);
  showDecisions(learning);
  showCandidates(models);
}
