// Asks the JSON views every two seconds and shows what they say.

import { $, ask, element, number, plural, score, short, svg, table, time } from "./page-elements.js";
import { showLearning } from "./page-learning.js";

const POLL_MS = 2000, N_ALERTS = 30, N_FIRST_ALERTS = 1000, N_RATES = 60, N_FIRST_RATES = 10;
const rates = [];
let entityKey = null;
let nAsked = 0;
let knowsAlerts = false; // drifts of long ago are marked too, so the first look goes further back

function severityBadge(alert) {
  if (alert.state === "resolved") return element("span", "badge good", "resolved");
  return element("span", "badge " + (alert.severity === "critical" ? "critical" : "warning"), alert.severity);
}

function keyButton(key) {
  const button = element("button", "link", key);
  button.type = "button";
  button.addEventListener("click", () => lookUp(key));
  return button;
}

function reason(item) {
  return `${item.feature} ${number(item.value, 4)}, expected ${number(item.mean, 4)} ± ${number(item.stddev, 3)} ` +
    `(${Math.round(100 * item.share)}%)`;
}

function alertItem(alert) {
  const head = element("div", "row", severityBadge(alert), keyButton(alert.key),
    element("span", "soft", "score " + score(alert.score)),
    element("time", "soft end", time(alert.timestamp)));
  const item = element("li", "", head);
  const why = alert.state === "firing" ? alert.reasons : [];
  const reasons = why.filter((one, i) => i === 0 || (i < 3 && one.share >= 0.05));
  if (reasons.length) item.append(element("p", "reasons", reasons.map(reason).join("; ")));
  if (alert.suppressed) item.append(element("p", "reasons", plural(alert.suppressed, "repeat") + " suppressed"));
  return item;
}

const sum = (rows, name) => rows.reduce((total, row) => total + row[name], 0);
const host = (url) => url.replace(/^https?:\/\//, "");

function drawRates() {
  const top = Math.max(...rates, 1);
  const step = 120 / (Math.max(rates.length, N_FIRST_RATES) - 1);
  const first = 120 - step * (rates.length - 1); // the newest is always at the right end
  const points = rates.map((rate, i) => `${first + step * i} ${31 - (28 * rate) / top}`);
  $("spark").replaceChildren(svg("path", { d: points.length > 1 ? "M" + points.join("L") : "" }));
}

function showWorkers({ workers, unanswered }) {
  const dead = {};
  for (const worker of workers) {
    for (const [code, n] of Object.entries(worker.n_dead_letters)) dead[code] = (dead[code] || 0) + n;
  }
  const nDead = Object.values(dead).reduce((a, b) => a + b, 0);
  const rate = sum(workers, "events_per_second");
  rates.push(rate);
  if (rates.length > N_RATES) rates.shift();
  drawRates();
  $("rate").textContent = number(Math.round(rate));
  $("events").textContent = number(sum(workers, "n_events"));
  $("predictions").textContent = number(sum(workers, "n_predictions"));
  $("alerts").textContent = number(sum(workers, "n_alerts"));
  $("dead").textContent = number(nDead);
  $("entities").textContent = number(sum(workers, "n_entities"));
  const state = (worker) =>
    element("span", "badge " + (worker.state === "ready" ? "good" : "warning"), worker.state);
  const rows = workers.map((worker) => [host(worker.url), state(worker), worker.partitions.join(", ") || "none",
    number(worker.n_entities), number(Math.round(worker.events_per_second))]);
  for (const url of unanswered) rows.push([host(url), element("span", "badge critical", "no answer"), "", "", ""]);
  $("worker-list").replaceChildren(
    table("", ["worker", "state", "partitions", "#entities", "#events/s"], rows));
  const codes = Object.entries(dead).sort((a, b) => b[1] - a[1]);
  $("dead-list").replaceChildren(codes.length
    ? element("div", "", table("", ["code", "#events"], codes.map(([code, n]) => [code, number(n)])),
      element("p", "soft", "With samples: ", element("code", "", "faust -A app dead-letters list")))
    : element("p", "soft", "None."));
  const nReady = workers.filter((worker) => worker.state === "ready").length;
  $("nothing").hidden = !nReady || sum(workers, "n_events") + sum(workers, "n_entities") > 0;
  const serving = new Set(workers.map(({ model }) => `${model.name} ${short(model.version)}`));
  $("status").textContent = `${nReady} of ${plural(workers.length + unanswered.length, "worker")} ready; ` +
    `${[...serving].join(", ")} ${serving.size === 1 ? "serves" : "serve"}`;
}

function showAlerts({ alerts }) {
  $("alert-list").replaceChildren(...(alerts.length ? alerts.slice(0, N_ALERTS).map(alertItem)
    : [element("li", "soft", "None so far. An entity is judged once its window holds enough events.")]));
}

function showModels({ models }, workers) {
  const serving = new Map();
  for (const { model } of workers) {
    const id = model.name + " " + model.version;
    serving.set(id, (serving.get(id) || 0) + 1);
  }
  const shown = [...serving].map(([id, n]) =>
    element("p", "", element("strong", "mono", id), ` serves on ${plural(n, "worker")}`));
  if (models.length) {
    shown.push(table("", ["name", "version", "role", "kind", "features"], models.map((model) =>
      [model.name, model.version, model.role, model.kind, (model.features || []).join(", ")])));
  } else {
    shown.push(element("p", "soft", "No model is published yet: ", element("code", "", "faust -A app models publish FILE")));
  }
  $("model-list").replaceChildren(...shown);
}

async function showEntity() {
  if (entityKey === null) return;
  const key = entityKey, turn = ++nAsked;
  const path = encodeURIComponent(key);
  let shown;
  try {
    const [statistics, { predictions }] = await Promise.all([
      ask("/api/statistics/" + path), ask("/api/predictions/" + path + "?limit=10")]);
    const features = Object.entries(statistics.features).map(([name, f]) =>
      [name, number(f.count), number(f.mean), number(f.stddev), number(f.min), number(f.max)]);
    const firing = Object.entries(statistics.alerts).filter(([, alert]) => alert.state === "firing");
    const { start, end } = statistics.window ?? statistics;
    shown = [
      element("p", "row", element("strong", "mono", key),
        element("span", "soft", `partition ${statistics.partition}, ${plural(statistics.n_events, "event")} in the window`),
        ...(statistics.warming_up ? [element("span", "badge", "warming up")] : []),
        ...firing.map(([rule, alert]) => element("span", "badge " + alert.severity, `${rule}: ${alert.severity}`))),
      element("div", "scroll", table(`Window ${time(start)} to ${time(end)} UTC`,
        ["feature", "#count", "#mean", "#stddev", "#min", "#max"], features)),
      element("div", "scroll", table("Recent predictions", ["event time", "prediction", "#score", "model", "version"],
        predictions.map((p) => [time(p.timestamp),
          typeof p.prediction === "object" ? JSON.stringify(p.prediction) : number(p.prediction),
          score(p.score), p.model, short(p.version)]))),
    ];
  } catch (error) {
    shown = [element("p", "soft", error.status === 404 ? `No worker holds state for “${key}”.` : error.message)];
  }
  if (turn === nAsked) $("entity").replaceChildren(...shown); // a later question may have been answered first
}

function lookUp(key) {
  entityKey = key;
  $("key").value = key;
  history.replaceState(null, "", "#key=" + encodeURIComponent(key));
  showEntity();
}

// A worker of an older version has no evaluations, and one that recovers has none yet.
const askLearning = () => ask("/api/evaluations").catch((error) => {
  if (error.status === 401) throw error;
  return null;
});

async function poll() {
  try {
    const nAlerts = knowsAlerts ? N_ALERTS : N_FIRST_ALERTS;
    const [workers, alerts, models, learning] = await Promise.all([
      ask("/api/workers"), ask("/api/alerts?limit=" + nAlerts), ask("/api/models"), askLearning()]);
    knowsAlerts = true;
    $("main").hidden = false; // before the chart is drawn: it needs to know its width
    showWorkers(workers);
    showAlerts(alerts);
    showModels(models, workers.workers);
    showLearning(learning, alerts.alerts, models.models);
    $("trouble").hidden = $("token-form").hidden = true;
    await showEntity();
  } catch (error) {
    if (error.status === 401) {
      $("main").hidden = true;
      $("token-form").hidden = false;
      $("status").textContent = "a token is needed";
      if (document.activeElement === document.body) $("token").focus();
      return; // asked again when the token was entered
    }
    $("trouble").hidden = false;
    $("trouble").textContent = (error.status ? error.message : "This worker does not answer.") + " Trying again.";
  }
  setTimeout(poll, POLL_MS);
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  $("token").value = "";
  poll();
});
$("entity-form").addEventListener("submit", (event) => {
  event.preventDefault();
  lookUp($("key").value);
});
function readHash() {
  const match = location.hash.match(/^#key=(.+)$/);
  if (!match) return;
  try { lookUp(decodeURIComponent(match[1])); } catch { /* not ours */ }
}
addEventListener("hashchange", readHash);
readHash();
poll();
