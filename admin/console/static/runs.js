import { get, page, query, url } from "./api.js";
import { $, announce, badge, duration, el, empty, when } from "./dom.js";
import { assistantLink } from "./filters.js";
import { localTime, utc } from "./form.js";
import { Table, list } from "./table.js";

const pause = 3000; // between two looks at the newest runs
const terminal = new Set(["completed", "failed", "cancelled", "timed_out"]);
const form = $("filter");
const here = new URLSearchParams(location.search);
const names = ["status", "assistant_id", "key_id", "from", "to"];
const filter = Object.fromEntries(names.map((name) => [name, here.get(name) ?? ""]));

function elapsed(run) {
  if (!run.started_at) return "";
  return run.completed_at ? duration(new Date(run.completed_at) - new Date(run.started_at)) : el("span", { class: "quiet" }, "In progress");
}

const table = new Table("Runs", [
  { label: "Run", cell: (r) => el("a", { href: url(`runs/${r.id}`) }, `Run ${r.id}`) },
  { label: "Status", cell: (r) => [badge(r.status), r.status_detail && el("small", { class: "quiet" }, ` ${r.status_detail}`)] },
  { label: "Assistant", cell: (r) => assistantLink(r.assistant_id) },
  { label: "API key", cell: (r) => r.key_id ? String(r.key_id) : el("span", { class: "quiet" }, "none") },
  { label: "Created", cell: (r) => when(r.created_at) },
  { label: "Duration", cell: elapsed },
]);

function none() {
  return names.some((name) => filter[name]) ? empty("No runs match this filter.")
    : empty("No runs yet. ", page.assistant ? el("a", { href: url(`assistants/${page.assistant}/test`) }, "Send a test trigger") : "Send a trigger, or a test trigger from an assistant's page.");
}

// The newest page is live. It does not move while the pointer or the focus is in it, or
// while it is paused: runs that are listed change where they are, others wait.
const live = !here.has("cursor");
let paused = false, timer, latest = [];

const inUse = () => table.element.matches(":hover") || table.element.contains(document.activeElement);

function show(items) {
  latest = items;
  if (table.rows.size > 0 && live && (paused || inUse())) {
    const waiting = table.update(items);
    $("waiting").hidden = waiting === 0;
    $("waiting").textContent = `Show ${waiting} new ${waiting === 1 ? "run" : "runs"}`;
    return;
  }
  $("waiting").hidden = true;
  table.show(items);
}

// look loads the list, and again while it is the newest page.
async function look() {
  clearTimeout(timer);
  try {
    await list("runs", table, none, filter, look, show);
    announce($("live"), live ? paused ? "Paused" : "Live" : "", "live on");
  } catch (failure) {
    announce($("live"), failure.lost ? "Connection lost. Retrying…" : "", "live off");
    if (!failure.lost) return;
  }
  if (live && !document.hidden) timer = setTimeout(look, pause);
}

$("waiting").addEventListener("click", () => {
  $("waiting").hidden = true;
  table.show(latest);
  table.element.querySelector("a")?.focus();
});
$("pause").hidden = !live;
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").textContent = paused ? "Resume" : "Pause";
  announce($("live"), paused ? "Paused" : "Live");
  if (!paused) show(latest);
});
table.element.addEventListener("pointerleave", () => setTimeout(() => show(latest)));

// choices fills the selects with what there is. Without them the filter works on.
async function choices() {
  const fill = (select, chosen, options) => {
    if (chosen && !options.some(([value]) => value === chosen)) options.unshift([chosen, chosen]);
    select.replaceChildren(el("option", { value: "" }, "Any"), ...options.map(([value, text]) => el("option", { value }, text)));
    select.value = chosen;
  };
  const { assistant_id: assistants, key_id: keys } = form.elements;
  const keysOf = async (id, chosen) => {
    fill(keys, chosen, []);
    keys.disabled = !id && !chosen;
    const { items } = id ? await get(`assistants/${id}/keys?limit=200`) : { items: [] };
    fill(keys, chosen, items.map((k) => [String(k.id), `${k.name} (${k.prefix}…)`]));
  };
  assistants.addEventListener("change", () => keysOf(assistants.value, "").catch(() => {}));
  const asked = [keysOf(filter.assistant_id, filter.key_id)];
  asked.push(get("assistants?limit=200").then(({ items }) =>
    fill(assistants, filter.assistant_id, items.map((a) => [a.id, a.name ? `${a.name} (${a.id})` : a.id]))));
  await Promise.allSettled(asked);
}

// On a phone the runs come first, unless a filter is what one has come for.
if (matchMedia("(max-width: 32rem)").matches && !names.some((name) => filter[name])) $("filters").open = false;
form.elements.status.value = terminal.has(filter.status) || ["queued", "running"].includes(filter.status) ? filter.status : "";
for (const name of ["from", "to"]) if (filter[name]) form.elements[name].value = localTime(filter[name]);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const values = Object.fromEntries(names.map((name) => [name, form.elements[name].value]));
  values.from = utc(values.from);
  values.to = utc(values.to);
  location.assign(url(`runs${query(values)}`));
});
document.addEventListener("visibilitychange", () => document.hidden || look());
choices();
look();
