import { url } from "./api.js";
import { $, clock, distance, el, empty, when } from "./dom.js";
import { assistantLink, filterForm, offerAssistants } from "./filters.js";
import { liveList } from "./live.js";
import { Table } from "./table.js";

const most = 200; // characters of a request that the list shows
const filter = { ...filterForm($("filter"), "waiting", ["assistant_id"]), status: "waiting" };
offerAssistants($("filter").elements.assistant_id, filter.assistant_id);

const short = (text) => (text.length > most ? `${text.slice(0, most)}…` : text);
const since = (time) => [clock(time, distance), el("small", {}, when(time))];

// asked is a column about the request of a run. A run that was answered a moment ago has none.
const asked = (label, cell, wide) => ({ label, wide, cell: (r) => r.input_request ? cell(r.input_request) : el("span", { class: "quiet" }, "answered") });

const table = new Table("Runs that wait for input", [
  { label: "Run", cell: (r) => [el("a", { href: url(`runs/${r.id}`) }, `Run ${r.id}`), el("small", { dir: "auto" }, r.subject)] },
  asked("Request", (i) => [el("span", { dir: "auto" }, short(i.question)), i.tool && el("small", {}, "Tool ", el("code", { dir: "auto" }, i.tool))], true),
  { label: "Assistant", cell: (r) => assistantLink(r.assistant_id) },
  asked("Asked", (i) => since(i.created_at)),
  asked("Expires", (i) => since(i.expires_at)),
]);

liveList({
  path: "runs", table, filter, noun: ["run", "runs"],
  none: () => empty(filter.assistant_id ? "No run of this assistant waits for input. Select Clear for those of all assistants." : "No run waits for input. A run that asks a person is listed here."),
});
