import { page, url } from "./api.js";
import { badge, el, empty, when } from "./dom.js";
import { Table, list } from "./table.js";

const table = new Table("Tasks", [
  { label: "Task", cell: (t) => [el("a", { href: url(`tasks/${t.id}`), dir: "auto" }, t.name), el("code", { class: "id" }, String(t.id))] },
  { label: "State", cell: (t) => badge(t.active ? "active" : "inactive") },
  { label: "Result", cell: (t) => t.output_type + (t.output_schema ? ", with a schema" : "") },
  { label: "Tools", cell: (t) => t.allowed_tools.length ? t.allowed_tools.join(", ") : el("span", { class: "quiet" }, "all") },
  { label: "Changed", cell: (t) => when(t.updated_at) },
]);
list(`assistants/${page.assistant}/tasks`, table, () => empty("No task yet. Triggers work without one: the message alone says what to do."))
  .catch(() => {});
