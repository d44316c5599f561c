import { get, url } from "./api.js";
import { el, empty, problem } from "./dom.js";
import { switches } from "./switches.js";
import { Table, list } from "./table.js";

const settings = new Map(); // one load for both columns of a row

function part(assistant, which) {
  const place = el("span", { class: "quiet" }, "…");
  if (!settings.has(assistant.id)) {
    settings.set(assistant.id, get(`assistants/${assistant.id}/channel`).then((s) => switches(s, assistant.name ?? assistant.id)));
  }
  settings.get(assistant.id).then((s) => place.replaceWith(s[which]), (failure) => place.replaceWith(problem(failure)));
  return place;
}

const table = new Table("Assistants", [
  { label: "Assistant", cell: (a) => [el("a", { href: url(`assistants/${a.id}`), dir: "auto" }, a.name ?? a.id), a.name && el("code", { class: "id" }, a.id)] },
  { label: "Triggers", cell: (a) => part(a, "enabled") },
  { label: "Callbacks", cell: (a) => part(a, "callbacks") },
  {
    label: "Open", wide: true, cell: (a) => el("span", { class: "links" }, [["keys", "API keys"], ["tasks", "Tasks"], ["test", "Test"]].map(([path, text]) =>
      el("a", { href: url(`assistants/${a.id}/${path}`), "aria-label": `${text} of ${a.name ?? a.id}` }, text)),
    el("a", { href: url(`runs?assistant_id=${a.id}`), "aria-label": `Runs of ${a.name ?? a.id}` }, "Runs")),
  },
]);
list("assistants", table, () => empty("There is no assistant yet. The application names them; one that gets an API key or settings shows up here."))
  .catch(() => {});
