import { get, getAll, page, parse, query, url } from "./api.js";
import { Selection, bulk, redelivery } from "./bulk.js";
import { $, age, badge, clock, duration, el, empty, keepFocus, unmatched, when } from "./dom.js";
import { assistantLink, here, offerAssistants, unknownParameters } from "./filters.js";
import { liveList } from "./live.js";
import { formRange, quickRanges, range, showRange } from "./ranges.js";
import { Table } from "./table.js";
import { turns } from "./turns.js";

const form = $("filter");
const names = ["q", "assistant_id", "key_id", "task_definition_id", "callback_state", "order"];
const time = range();
const chosen = here.getAll("status").filter(Boolean);
const metadata = Object.fromEntries([...here].filter(([name]) => name.startsWith("metadata.")));
const unknown = unknownParameters([...names, ...Object.keys(metadata), "status", "from", "to", ...time.range ? ["range"] : []]);
const filter = { ...unknown, ...Object.fromEntries(names.map((name) => [name, here.get(name) ?? ""])), ...metadata, status: chosen, from: time.from, to: time.to };
const searching = filter.q !== "" || Object.keys(metadata).length > 0;
const filtered = () => Object.entries(filter).some(([name, value]) => name !== "order" && value.length > 0);

const progress = { queued: "Queued", running: "In progress", waiting: "Waiting" };

// elapsed is how long a run took. An open run shows how long it has had its status.
function elapsed(run) {
  if (progress[run.status]) return el("span", { class: "quiet" }, progress[run.status], run.status_since && [", ", clock(run.status_since, age)]);
  return run.started_at ? duration(new Date(run.completed_at) - new Date(run.started_at)) : "";
}

const selection = new Selection(showSelection);
const quiet = (text) => el("span", { class: "quiet" }, text);

const table = new Table("Runs", [
  selection.column((r) => `run ${r.id}`),
  { label: "Run", cell: (r) => [el("a", { href: url(`runs/${r.id}`) }, `Run ${r.id}`), el("small", { dir: "auto" }, r.subject)] },
  { label: "Status", cell: (r) => [badge(r.status), (r.status_detail || r.error_message) && el("small", { dir: "auto" }, r.status_detail ?? r.error_message)] },
  { label: "Assistant", cell: (r) => [assistantLink(r.assistant_id), r.task_name && el("small", { dir: "auto" }, r.task_name)] },
  { label: "API key", cell: (r) => r.key_id ? el("span", { dir: "auto" }, r.key_name ?? String(r.key_id)) : quiet("none") },
  { label: "Callback", cell: (r) => r.callback_state ? badge(r.callback_state) : quiet("none") },
  { label: "Created", cell: (r) => when(r.created_at) },
  { label: "Duration", cell: elapsed },
]);

function none({ next }) {
  if (next) return empty("No match in these runs. Continue the search with Older.");
  return filtered() ? unmatched("runs")
    : empty("No runs yet. ", page.assistant ? el("a", { href: url(`assistants/${page.assistant}/test`) }, "Send a test trigger") : "Send a trigger, or a test trigger from an assistant's page.");
}

// chips are the statuses with the number of their runs. Each adds itself to the filter,
// or removes itself.
const chipTurns = turns();
async function chips() {
  const { status, order, ...others } = filter, current = chipTurns();
  const { items } = await get(`runs/counts${query(others)}`);
  if (!current()) return;
  const chip = (text, next, current) => {
    const search = new URLSearchParams(here);
    search.delete("status");
    search.delete("cursor");
    for (const one of next) search.append("status", one);
    return el("a", { class: "chip", href: `?${search}`, "aria-current": current ? "true" : undefined }, text);
  };
  keepFocus($("statuses"), () => $("statuses").replaceChildren(chip("All", [], !chosen.length), ...items.map(({ status, count, more }) =>
    chip(`${status.replaceAll("_", " ")} ${count.toLocaleString()}${more ? "+" : ""}`,
      chosen.includes(status) ? chosen.filter((one) => one !== status) : [...chosen, status], chosen.includes(status)))));
}

// choices fills the selects with what there is. Without them the filter works on.
function choices() {
  const fill = (select, value, options) => {
    if (value && !options.some(([id]) => id === value)) options.unshift([value, value]);
    select.replaceChildren(el("option", { value: "" }, "Any"), ...options.map(([id, text]) => el("option", { value: id, dir: "auto" }, text)));
    select.value = value;
  };
  const { assistant_id: assistant, key_id: keys, task_definition_id: tasks } = form.elements;
  const offer = async (select, path, id, value, text) => {
    fill(select, value, []);
    select.disabled = !id && !value;
    select.title = select.disabled ? "Select an assistant first." : "";
    const items = id ? await getAll(`assistants/${id}/${path}`) : [];
    if (assistant.value === id) fill(select, value, items.map((item) => [String(item.id), text(item)]));
  };
  const of = (id, key, task) => Promise.allSettled([
    offer(keys, "keys", id, key, (k) => `${k.name} (${k.prefix}…)`), offer(tasks, "tasks", id, task, (t) => t.name)]);
  assistant.addEventListener("change", () => of(assistant.value, "", ""));
  of(filter.assistant_id, filter.key_id, filter.task_definition_id);
  offerAssistants(assistant, filter.assistant_id);
}

function showSelection() {
  const n = selection.ids.size;
  $("selected").textContent = n ? `${n} selected` : filtered() ? "All that match the filter" : "All runs";
  $("unselect").hidden = n === 0;
}

const texts = { subject: "subjects", request_id: "request IDs", error_message: "errors", message: "messages", result: "results", metadata: "metadata" };

// showSearched shows what was searched, and how far back.
function showSearched({ searched, next }) {
  if (!searched) return; // it is hidden
  $("searched").hidden = false;
  const what = new Intl.ListFormat("en").format(searched.texts.filter((text) => texts[text]).map((text) => texts[text]));
  $("searched").replaceChildren(`Searched: ${what} of ${searched.runs.toLocaleString()} ${searched.runs === 1 ? "run" : "runs"}`,
    ...next ? [", back to ", when(searched.since), ". Older continues the search."] : [". These are all that match the filter."]);
}

// metadataFields are a field for each value of metadata in the filter, and an empty one.
function metadataFields() {
  const first = form.elements.metadata;
  if (!first) return;
  for (const [name, value] of Object.entries(metadata)) {
    const field = first.parentElement.cloneNode(true);
    field.className = "long";
    field.lastElementChild.value = `${name.slice("metadata.".length)}=${value}`;
    first.parentElement.before(field);
  }
}

// formMetadata are the parameters of these fields.
const formMetadata = () => Object.fromEntries([...form.querySelectorAll("[name=metadata]")].filter(({ value }) => value)
  .map(({ value }) => [`metadata.${value.slice(0, value.indexOf("=")).trim()}`, value.slice(value.indexOf("=") + 1).trim()]));

// change changes the selected runs, or those of the filter. defaults are the values of the
// filter that it has not.
async function change(button, path, words, defaults) {
  const selected = Object.fromEntries(Object.entries(filter).filter(([name]) => name !== "order" && !(name in metadata)));
  const byFilter = Object.fromEntries(Object.entries({ ...selected, ...Object.fromEntries(Object.entries(defaults).filter(([name]) => !filter[name].length)) })
    .filter(([, value]) => value.length).map(([name, value]) => [name, (name === "key_id" || name === "task_definition_id") && /^\d+$/.test(value) ? parse(value) : value]));
  if (Object.keys(metadata).length) byFilter.metadata = Object.fromEntries(Object.entries(metadata).map(([name, value]) => [name.slice("metadata.".length), value]));
  const body = selection.ids.size ? { ids: [...selection.ids.values()] } : { filter: byFilter };
  if (!await bulk(button, path, body, words)) return;
  selection.clear(table.element);
  look();
}
$("cancel-many").addEventListener("click", (event) => change(event.target, "runs/cancel", {
  noun: ["run", "runs"], verb: "Cancel", past: "cancelled", text: "Queued and waiting runs end now. Running ones stop soon. This cannot be undone.",
}, { status: ["queued", "running", "waiting"] }));
$("repeat-many").addEventListener("click", (event) => change(event.target, "runs/repeat", {
  noun: ["run", "runs"], verb: "Repeat", past: "started again", danger: false, text: "Each starts a new run with the same input, and sends its callback again.",
}, { status: ["failed", "timed_out"] }));
$("redeliver-many").addEventListener("click", (event) => change(event.target, "runs/redeliver", redelivery, { callback_state: ["failed", "blocked", "unknown"] }));
$("unselect").addEventListener("click", () => {
  selection.clear(table.element);
  $("cancel-many").focus();
});

// On a phone the runs come first, unless a filter is what one has come for.
if (matchMedia("(max-width: 32rem)").matches && !filtered()) $("filters").open = false;
form.elements.callback_state.value = filter.callback_state;
form.elements.q.value = filter.q;
metadataFields();
const otherOrder = new URLSearchParams(here);
otherOrder.delete("cursor");
if (filter.order === "oldest") otherOrder.delete("order");
else otherOrder.set("order", "oldest");
$("order").href = `?${otherOrder}`;
$("order").textContent = filter.order === "oldest" ? "Newest first" : "Oldest first";
showRange(form);
quickRanges($("ranges"));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const values = Object.fromEntries(names.map((name) => [name, form.elements[name]?.value ?? filter[name]]));
  location.assign(url(`runs${query({ ...values, ...formMetadata(), status: chosen, ...formRange(form) })}`));
});
choices();
showSelection();
// The list reports what is wrong.
const look = liveList({ path: "runs", table, none, filter, noun: ["run", "runs"], still: searching, loaded: showSearched, each: () => chips().catch(() => {}) });
