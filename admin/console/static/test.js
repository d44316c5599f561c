import { call, getAll, page } from "./api.js";
import { $, badge, block, busy, duration, el, leave, notify } from "./dom.js";
import { clear, fault, jsonFault, showFaults } from "./form.js";

const form = $("trigger");

async function loadTasks() {
  try {
    const items = await getAll(`assistants/${page.assistant}/tasks`);
    const wanted = new URLSearchParams(location.search).get("task");
    form.elements.task_definition_id.append(...items.map((task) =>
      el("option", { value: task.id, dir: "auto", selected: String(task.id) === wanted }, `${task.name}${task.active ? "" : " (inactive)"}`)));
  } catch (failure) {
    if (failure.status !== 404) notify(failure); // tasks may be another's to see
  }
}

// body is the trigger as JSON; context and metadata go in as they were typed.
function body() {
  const members = [];
  for (const name of ["message", "subject", "callback_url"]) {
    const text = form.elements[name].value;
    if (text || name === "message") members.push(`${JSON.stringify(name)}:${JSON.stringify(text)}`);
  }
  for (const name of ["task_definition_id", "context", "metadata"]) {
    const json = form.elements[name].value.trim();
    if (json) members.push(`${JSON.stringify(name)}:${json}`);
  }
  return `{${members.join(",")}}`;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  clear(form);
  for (const name of ["context", "metadata"]) {
    const text = form.elements[name].value.trim();
    const wrong = text && jsonFault(text);
    if (wrong) fault(form, name, wrong);
  }
  const first = form.querySelector("[aria-invalid]");
  if (first) {
    first.focus();
    return;
  }
  busy(event.submitter, async () => {
    try {
      const accepted = await call("POST", `assistants/${page.assistant}/test-trigger`, body());
      await leave(`runs/${accepted.run_id}`);
    } catch (failure) {
      showFaults(form, failure);
    }
  });
});

const callback = $("callback");
callback.addEventListener("submit", (event) => {
  event.preventDefault();
  clear(callback);
  $("outcome").replaceChildren(el("p", { class: "loading" }, "Sending…"));
  busy(event.submitter, async () => {
    try {
      const d = await call("POST", `assistants/${page.assistant}/test-callback`, { callback_url: callback.elements.callback_url.value });
      $("outcome").replaceChildren(el("p", {}, badge(d.state), " ",
        [d.http_status && `HTTP ${d.http_status}`, d.latency_ms !== null && d.latency_ms !== undefined && duration(d.latency_ms), d.error].filter(Boolean).join(" · ")),
      d.response ? block(d.response, "Receiver response") : "");
    } catch (failure) {
      $("outcome").replaceChildren();
      showFaults(callback, failure);
    }
  });
});
loadTasks();
