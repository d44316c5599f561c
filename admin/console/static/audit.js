import { query, url } from "./api.js";
import { $, el, empty, unmatched, when } from "./dom.js";
import { assistantLink, filterForm } from "./filters.js";
import { localTime, utc } from "./form.js";
import { Table, list } from "./table.js";

const actions = {
  "channel.set": "Channel changed", "signing_secrets.set": "Signing secrets changed",
  "key.create": "Key created", "key.rotate": "Key rotated", "key.revoke": "Key revoked",
  "task.create": "Task created", "task.update": "Task changed", "task.delete": "Task deleted",
  "run.create": "Run created", "run.cancel": "Run cancelled", "delivery.redeliver": "Callback redelivered",
  "conversation.erase": "Conversation erased",
};

const places = {
  channel: (id) => `assistants/${id}`, signing_secrets: (id) => `signing-secrets?assistant_id=${id}`,
  task: (id) => `tasks/${id}`, run: (id) => `runs/${id}`,
};

// object links to what an entry is about, and to the other entries about it.
function object({ object, action }) {
  const slash = object.indexOf("/");
  const place = !/delete|erase/.test(action) && places[object.slice(0, slash)];
  return [place ? el("a", { href: url(place(object.slice(slash + 1))) }, object) : object,
    el("small", {}, el("a", { href: url(`audit${query({ object })}`), "aria-label": `Entries about ${object}` }, "Entries"))];
}

// shown is a value of an entry's details, by its name.
function shown(name, value) {
  if (value === null) return "none";
  if (name === "assistant_id") return assistantLink(value);
  if (name.endsWith("_at")) return when(value);
  if (Array.isArray(value) && value.every((one) => typeof one === "string")) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const label = (name) => name === "assistant_id" ? "assistant" : name.replaceAll("_", " ");

function detail(entry) {
  return el("dl", { class: "details" }, Object.entries(entry.detail ?? {}).map(([name, value]) =>
    el("div", {}, el("dt", {}, label(name)), el("dd", { dir: "auto" }, shown(name, value)))));
}

const form = $("filter");
const filter = filterForm(form, "audit", ["actor", "object", "from", "to"],
  (values) => ({ actor: values.actor.trim(), object: values.object.trim(), from: utc(values.from), to: utc(values.to) }));
for (const name of ["from", "to"]) form.elements[name].value = localTime(filter[name]);

const table = new Table("Audit log", [
  { label: "Time", cell: (e) => [when(e.at), e.request_id && el("small", {}, el("code", { title: "Request ID" }, e.request_id))] },
  { label: "Actor", cell: (e) => e.actor ? el("span", { dir: "auto" }, e.actor) : el("span", { class: "quiet" }, "the application") },
  { label: "Action", cell: (e) => actions[e.action] ?? e.action },
  { label: "Object", cell: object },
  { label: "Details", wide: true, cell: detail },
]);
list("audit", table, () => Object.values(filter).some(Boolean) ? unmatched("entries") : empty("No entries yet."), filter).catch(() => {});
