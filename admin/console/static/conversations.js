import { url } from "./api.js";
import { $, badge, el, empty, unmatched, when } from "./dom.js";
import { assistantLink, filterForm, offerAssistants } from "./filters.js";
import { Table, list } from "./table.js";

const filter = filterForm($("filter"), "conversations", ["conversation_key", "assistant_id"]);
offerAssistants($("filter").elements.assistant_id, filter.assistant_id);

const table = new Table("Conversations", [
  { label: "Conversation", cell: (c) => el("a", { href: url(`conversations/${c.id}`) }, `Conversation ${c.id}`) },
  { label: "Key", cell: (c) => c.conversation_key ? el("code", { dir: "auto" }, c.conversation_key) : el("span", { class: "quiet" }, "none") },
  { label: "Subject", wide: true, cell: (c) => el("span", { dir: "auto" }, c.subject) },
  { label: "Assistant", cell: (c) => assistantLink(c.assistant_id) },
  { label: "Started", cell: (c) => when(c.created_at) },
  { label: "Newest run", cell: (c) => [el("a", { href: url(`runs/${c.last_run.id}`) }, `Run ${c.last_run.id}`), " ", badge(c.last_run.status)] },
]);

list("conversations", table, () => Object.values(filter).some(Boolean) ? unmatched("conversations")
  : empty("No conversations yet. Each trigger starts one, or continues the one that its ", el("code", {}, "conversation_key"), " names."), filter).catch(() => {});
