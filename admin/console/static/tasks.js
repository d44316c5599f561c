import { page, url } from "./api.js";
import { $, badge, el, empty, unmatched, when } from "./dom.js";
import { assistantLink, filterForm, offerAssistants } from "./filters.js";
import { Table, list } from "./table.js";

const all = !page.tab; // over all assistants
let filter = {};
if (all) {
  filter = filterForm($("filter"), "tasks", ["assistant_id", "active"]);
  offerAssistants($("filter").elements.assistant_id, filter.assistant_id);
  offerAssistants($("new"));
  $("new").addEventListener("change", (event) => event.target.value && location.assign(url(`assistants/${event.target.value}/tasks/new`)));
}

const table = new Table("Tasks", [
  { label: "Task", cell: (t) => [el("a", { href: url(`tasks/${t.id}`), dir: "auto" }, t.name), el("code", { class: "id" }, String(t.id))] },
  all && { label: "Assistant", cell: (t) => assistantLink(t.assistant_id) },
  { label: "State", cell: (t) => badge(t.active ? "active" : "inactive") },
  { label: "Result", cell: (t) => t.output_type + (t.output_schema ? ", with a schema" : "") },
  { label: "Tools", cell: (t) => t.allowed_tools.length ? t.allowed_tools.join(", ") : el("span", { class: "quiet" }, "all") },
  { label: "Changed", cell: (t) => when(t.updated_at) },
].filter(Boolean));
list(all ? "tasks" : `assistants/${page.assistant}/tasks`, table, () => Object.values(filter).some(Boolean)
  ? unmatched("tasks") : empty("No tasks yet. A trigger without a task uses its message alone."), filter).catch(() => {});
