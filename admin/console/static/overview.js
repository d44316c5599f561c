import { get, query, url } from "./api.js";
import { bars } from "./bars.js";
import { $, announce, badge, duration, el, empty, keepFocus, problem } from "./dom.js";
import { here } from "./filters.js";
import { Table } from "./table.js";
import { repeat, turns } from "./turns.js";

const hour = 3_600_000;
const ranges = [["24h", "Last 24 hours", 24, 1], ["7d", "Last 7 days", 168, 6], ["30d", "Last 30 days", 720, 24]];
const [chosen, , hours, step] = ranges.find(([name]) => name === here.get("range")) ?? ranges[0];
$("ranges").replaceChildren(...ranges.map(([name, text]) =>
  el("a", { class: "chip", href: `?range=${name}`, "aria-current": name === chosen ? "true" : undefined }, text)));

const series = [{ name: "completed", class: "good" }, { name: "failed", class: "bad" }, { name: "timed_out", class: "late" }, { name: "cancelled", class: "plain" }];
const words = (name) => name.replaceAll("_", " ");
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const moment = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });

// oldest is a list that begins with the runs that have been open for the longest time.
const oldest = (status) => url(`runs?status=${status}&order=oldest`);

// queue shows the open runs.
const beginQueue = turns();
const queue = repeat(async () => {
  const current = beginQueue();
  try {
    const state = await get("queue");
    if (!current()) return false;
    const card = (name, value, href) => el("div", { "data-id": name }, el("dt", {}, name), el("dd", {}, href ? el("a", { href }, value) : value));
    const cards = [card("Running", state.running.toLocaleString(), oldest("running")), card("Queued", state.queued.toLocaleString(), oldest("queued")),
      card("Oldest waits for", state.oldest_age_ms ? duration(state.oldest_age_ms) : "none", state.oldest_age_ms && oldest("queued"))];
    if (state.waiting !== undefined) cards.push(card("Waiting for input", state.waiting.toLocaleString(), url("waiting")));
    const text = cards.map((c) => c.textContent).join("");
    if ($("now").textContent !== text) keepFocus($("now"), () => $("now").replaceChildren(...cards));
    announce($("live"), "Live", "live on");
  } catch (failure) {
    if (!current()) return false;
    if (!failure.lost || !$("now").childElementCount) $("now").replaceChildren(el("div", {}, problem(failure, queue)));
    announce($("live"), failure.lost ? "Connection lost. Retrying…" : "", "live off");
    return failure.lost;
  }
  return true;
}, 5000);

function link(from) {
  return url(`runs${query({ from, to: new Date(new Date(from).getTime() + step * hour).toISOString() })}`);
}

const count = (s) => series.map(({ name }) => s[name]);
const sentence = (s) => series.map(({ name }) => `${s[name].toLocaleString()} ${words(name)}`).join(", ");
const label = (from) => (step > 1 || new Date(from).getHours() === 0 ? day : clock).format(new Date(from));

function chart({ steps, total, complete }) {
  const legend = el("p", { class: "totals" }, series.map(({ name, class: tone }) => el("span", { class: `key ${tone}` }, `${total[name].toLocaleString()} ${words(name)}`)));
  return [legend, bars("Ended runs", steps.map((s) => ({ label: label(s.from), text: `${moment.format(new Date(s.from))}: ${sentence(s)}`, href: link(s.from), values: count(s) })), series),
    !complete && el("p", { class: "quiet" }, "Older hours are being counted…")].filter(Boolean);
}

function durations({ steps, total }) {
  if (!total.p95_ms) return [empty(steps.some((s) => s.completed + s.failed + s.cancelled + s.timed_out) ? "No run took a millisecond." : "No run has ended in this time.")];
  return [el("p", { class: "totals" }, el("span", { class: "key busy" }, `Median ${duration(total.median_ms)}`), el("span", { class: "key soft" }, `95 % end within ${duration(total.p95_ms)}`)),
    bars("Durations of runs, 95th percentile", steps.map((s) => ({ label: label(s.from), href: link(s.from), values: [s.median_ms, Math.max(s.p95_ms - s.median_ms, 0)],
      text: `${moment.format(new Date(s.from))}: median ${duration(s.median_ms)}, 95 % within ${duration(s.p95_ms)}` })),
    [{ class: "busy" }, { class: "soft" }], duration)];
}

function table({ steps }) {
  const rows = new Table("Results over time", [
    { label: "From", cell: (s) => el("a", { href: link(s.from) }, moment.format(new Date(s.from))) },
    ...series.map(({ name }) => ({ label: words(name), cell: (s) => s[name].toLocaleString() })),
    { label: "Median", cell: (s) => s.median_ms ? duration(s.median_ms) : "" },
    { label: "95 %", cell: (s) => s.p95_ms ? duration(s.p95_ms) : "" },
  ]);
  rows.show(steps.map((s) => ({ ...s, id: s.from })));
  return el("div", { class: "list" }, rows.element);
}

let stats;

function show() {
  const asTable = $("as-table").ariaPressed === "true";
  keepFocus($("results"), () => $("results").replaceChildren(...(asTable ? [table(stats)] : chart(stats))));
}

$("as-table").addEventListener("click", () => {
  $("as-table").ariaPressed = String($("as-table").ariaPressed !== "true");
  if (stats) show();
});

const errors = new Table("Frequent errors", [
  { label: "Error", wide: true, cell: (e) => el("span", { dir: "auto" }, e.error) },
  { label: "Runs", cell: (e) => e.count.toLocaleString() },
  { label: "Newest", cell: (e) => el("a", { href: url(`runs/${e.last_run_id}`) }, `Run ${e.last_run_id}`) },
]);
const receivers = new Table("Receivers that fail", [
  { label: "Receiver", cell: (r) => el("a", { href: url(`callbacks${query({ host: r.host, state: r.state, range: chosen })}`) }, el("code", {}, r.host)) },
  { label: "State", cell: (r) => badge(r.state) },
  { label: "Callbacks", cell: (r) => r.count.toLocaleString() },
]);

function fill(place, rows, items, none) {
  rows.show(items);
  $(place).replaceChildren(items.length ? rows.element : empty(none));
}

// load shows the statistics, again while older hours are being counted, and when the page
// is seen again.
const beginStats = turns();
const load = repeat(async () => {
  const current = beginStats();
  const to = new Date(), from = new Date(to - hours * hour).toISOString();
  get(`deliveries/counts${query({ last: "true", state: ["failed", "blocked", "unknown"], from })}`).then(({ items }) =>
    fill("receivers", receivers, items.sort((a, b) => b.count - a.count).slice(0, 10).map((r) => ({ ...r, id: `${r.host} ${r.state}` })), "All callbacks were delivered."),
  (failure) => $("receivers").replaceChildren(problem(failure, load)));
  try {
    const next = await get(`stats${query({ from, to: to.toISOString(), step: String(step * 3600) })}`);
    if (!current()) return false;
    stats = next;
    show();
    keepFocus($("durations"), () => $("durations").replaceChildren(...durations(stats)));
    fill("errors", errors, stats.errors.map((e) => ({ ...e, id: e.error })), "No run has failed in this time.");
    return !stats.complete;
  } catch (failure) {
    if (!current()) return false;
    for (const place of ["results", "durations", "errors"]) $(place).replaceChildren(problem(failure, load));
    return false;
  }
}, 1000);

queue();
load();
