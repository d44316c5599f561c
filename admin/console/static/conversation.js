import { get, page, query, url } from "./api.js";
import { $, badge, busy, el, focusOn, notify, problem, when } from "./dom.js";
import { erase } from "./erase.js";
import { assistantLink } from "./filters.js";
import { Transcript } from "./transcript.js";

const runs = new Map(); // by id, those that are listed
const types = new Map(); // by id of a task: requests for the type of its results

// outputType is the type of a run's result. Runs with the same task share a request.
async function outputType(id) {
  const run = runs.get(String(id));
  const task = run?.task_definition_id;
  if (!task) return "";
  if (!types.has(String(task))) types.set(String(task), get(`runs/${id}`).then((r) => r.task?.output_type ?? "", () => ""));
  return types.get(String(task));
}

const transcript = new Transcript($("transcript"), {
  type: outputType,
  run: (id) => el("a", { href: url(`runs/${id}`) }, `Run ${id}`),
});

let cursor = "";
async function load() {
  $("trouble").replaceChildren();
  try {
    const { items, next } = await get(`conversations/${page.conversation}/messages${query({ limit: "100", cursor })}`);
    const first = transcript.add(items);
    cursor = next ?? "";
    if (document.activeElement === $("more") && first) focusOn(first); // the button may go
    $("more").hidden = !cursor;
    $("loading")?.remove();
  } catch (failure) {
    $("loading")?.remove();
    $("trouble").replaceChildren(problem(failure, load));
  }
}

let older = "";
async function loadRuns() {
  try {
    const { items, next } = await get(`runs${query({ assistant_id: page.assistant, conversation_id: page.conversation, limit: "50", cursor: older })}`);
    for (const run of items) runs.set(String(run.id), run);
    const rows = items.map((run) => el("li", {}, el("a", { href: url(`runs/${run.id}`) }, `Run ${run.id}`), " ", badge(run.status), " ",
      run.behind && el("small", {}, "waits for earlier runs"), el("small", {}, when(run.created_at))));
    $("runs").append(...rows);
    if (document.activeElement === $("older")) focusOn(rows[0]?.querySelector("a") ?? $("runs-title"));
    older = next ?? "";
    $("older").hidden = !older;
  } catch (failure) {
    if (failure.status === 404) $("runs").replaceChildren(el("li", { class: "quiet" }, "You do not have access to the runs."));
    else notify(failure);
  }
}

$("assistant").replaceChildren(assistantLink(page.assistant));
$("started").replaceWith(when($("started").dateTime));
$("more").addEventListener("click", (event) => busy(event.target, load));
$("older").addEventListener("click", (event) => busy(event.target, loadRuns));
$("erase").addEventListener("click", (event) => erase(page.conversation, event.target, "conversations"));
await loadRuns(); // first, for the types of results
load();
