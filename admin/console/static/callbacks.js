import { get, query, url } from "./api.js";
import { $, badge, duration, el, empty, problem, unmatched, when } from "./dom.js";
import { bulk, redelivery } from "./bulk.js";
import { assistantLink, here, offerAssistants, unknownParameters } from "./filters.js";
import { formRange, quickRanges, range, showRange } from "./ranges.js";
import { Table, list } from "./table.js";
import { repeat, turns } from "./turns.js";

const undelivered = ["failed", "blocked", "unknown"];
const form = $("filter");
const chosen = { state: here.get("state") ?? "", host: here.get("host") ?? "", assistant_id: here.get("assistant_id") ?? "" };
const time = range();
const states = chosen.state === "undelivered" ? undelivered : chosen.state ? [chosen.state] : [];

// filter is the query of the list.
const filter = { ...unknownParameters([...Object.keys(chosen), "from", "to", ...time.range ? ["range"] : []]), state: states, host: chosen.host, assistant_id: chosen.assistant_id, from: time.from, to: time.to };

for (const name of ["state", "host"]) form.elements[name].value = chosen[name];
offerAssistants(form.elements.assistant_id, chosen.assistant_id);
quickRanges($("ranges"));
showRange(form);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const values = Object.fromEntries(["state", "host", "assistant_id"].map((name) => [name, form.elements[name].value.trim()]));
  location.assign(url(`callbacks${query({ ...values, ...formRange(form) })}`));
});

// redeliver asks for the last callback of each run, of the filter or of one receiver.
async function redeliver(button, more = {}) {
  const body = { ...Object.fromEntries(Object.entries({ ...filter, state: states.length ? states : undelivered, ...more }).filter(([, v]) => v?.length)) };
  if (await bulk(button, "deliveries/redeliver", { filter: body }, redelivery)) load();
}
$("redeliver").addEventListener("click", (event) => redeliver(event.target));

const stateLink = (host, state, count) => el("a", { class: "plainlink", href: url(`callbacks${query({ host, state, assistant_id: chosen.assistant_id, ...time })}`),
  "aria-label": `${count} ${state} at ${host}` }, badge(state), " ", el("span", { class: "count" }, count.toLocaleString()));

const receivers = new Table("Receivers", [
  { label: "Receiver", cell: (r) => el("code", {}, r.id) },
  { label: "Callbacks by state", wide: true, cell: (r) => el("span", { class: "links" }, r.counts.map((c) => stateLink(r.id, c.state, c.count))) },
  {
    label: "Actions", cell: (r) => {
      const n = r.counts.filter((c) => undelivered.includes(c.state)).reduce((sum, c) => sum + c.count, 0);
      return n > 0 ? el("button", { type: "button", class: "small", "aria-label": `Redeliver ${n} to ${r.id}`,
        click: (e) => redeliver(e.target, { host: r.id, state: undelivered }) }, `Redeliver ${n.toLocaleString()}…`) : el("span", { class: "quiet" }, r.counts.every((c) => c.state === "delivered") ? "all delivered" : "In progress");
    },
  },
]);

const begin = turns();

// byReceiver shows the last callbacks of runs, those that fail most first. It returns
// whether some are under way.
async function byReceiver() {
  const current = begin();
  let counts;
  try {
    counts = await get(`deliveries/counts${query({ last: "true", assistant_id: chosen.assistant_id, from: time.from, to: time.to })}`);
  } catch (failure) {
    if (current()) $("receivers").replaceChildren(problem(failure, failure.status === 400 ? null : load));
    return false;
  }
  if (!current()) return false;
  const { items, more } = counts;
  const hosts = new Map();
  for (const { host, state, count } of items) hosts.set(host, [...hosts.get(host) ?? [], { state, count }]);
  const failing = (counts) => counts.filter((c) => undelivered.includes(c.state)).reduce((sum, c) => sum + c.count, 0);
  const rows = [...hosts].map(([id, counts]) => ({ id, counts })).sort((a, b) => failing(b.counts) - failing(a.counts) || a.id.localeCompare(b.id));
  receivers.show(rows.slice(0, 50));
  if (!rows.length) $("receivers").replaceChildren(empty("No callbacks in this time."));
  else if (!receivers.element.isConnected) $("receivers").replaceChildren(receivers.element);
  $("counted").hidden = !more;
  return items.some(({ state }) => state === "pending" || state === "sending");
}

const table = new Table("Deliveries", [
  { label: "Created", cell: (d) => when(d.created_at) },
  { label: "Run", cell: (d) => el("a", { href: url(`runs/${d.run_id}#callback`) }, `Run ${d.run_id}`) },
  { label: "Assistant", cell: (d) => assistantLink(d.assistant_id) },
  { label: "Receiver", cell: (d) => el("code", {}, d.host) },
  { label: "State", cell: (d) => [badge(d.state), d.http_status && el("small", {}, `HTTP ${d.http_status}`), d.retry > 0 && el("small", {}, `retry ${d.retry}`)] },
  { label: "Error", wide: true, cell: (d) => d.error ? el("span", { dir: "auto" }, d.error) : el("span", { class: "quiet" }, "none") },
  { label: "Latency", cell: (d) => d.latency_ms === null ? "" : duration(d.latency_ms) },
]);

const none = () => states.length || chosen.host || chosen.assistant_id || time.from || time.to ? unmatched("deliveries")
  : empty("No deliveries yet. A trigger with a ", el("code", {}, "callback_url"), " has one when its run ends.");

const load = repeat(async () => {
  const [underWay] = await Promise.all([byReceiver(), list("deliveries", table, none, filter, () => load()).catch(() => {})]);
  return underWay && !here.has("cursor");
}, 3000);
load();
