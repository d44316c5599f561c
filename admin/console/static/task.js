import { call, get, page } from "./api.js";
import { $, ask, busy, el, empty, leave, notify, problem } from "./dom.js";
import { clear, fault, jsonFault, showFaults } from "./form.js";
import { indent } from "./json.js";

const form = $("task");
const schema = $("output_schema");
let saved; // the task as it was read

// sync hides the schema unless the result is JSON, and approvals of tools that the task
// cannot use. They keep their selection.
function sync() {
  $("schema").hidden = form.elements.output_type.value !== "json";
  const allowed = checked("tool");
  for (const box of form.querySelectorAll("input[name=approve]")) box.parentElement.hidden = allowed.length > 0 && !allowed.includes(box.value);
}

// checkSchema shows at once whether the schema is a JSON object. Only the server checks
// whether it is a schema.
function checkSchema() {
  const text = schema.value.trim();
  const wrong = text && (jsonFault(text) ?? (text.startsWith("{") ? null : "A schema is a JSON object."));
  $("schema-state").textContent = wrong || (text ? "This is JSON. The schema itself is checked when you save." : "Any JSON is allowed.");
  $("schema-state").classList.toggle("wrong", Boolean(wrong));
  return wrong;
}

// tools lists the tools of the host, and tools of the task that the host no longer has:
// those that the task may use, and those that need approval.
function tools(offered, allowed, approve) {
  const missing = [...new Set([...allowed, ...approve])].filter((name) => !offered.some((tool) => tool.name === name));
  const all = [...offered, ...missing.map((name) => ({ name, description: "The application no longer has this tool." }))];
  const boxes = (field, chosen, described) => all.map((tool) => el("label", { class: "choice" },
    el("input", { type: "checkbox", name: field, value: tool.name, checked: chosen.includes(tool.name) }),
    el("span", {}, el("code", {}, tool.name), described && tool.description && el("small", {}, tool.description))));
  $("tools").replaceChildren(...boxes("tool", allowed, true));
  $("approvals").replaceChildren(...boxes("approve", approve, false));
  if (!all.length) for (const place of ["tools", "approvals"]) $(place).replaceChildren(empty("The application has no tools."));
}

const checked = (field) => [...form.querySelectorAll(`input[name=${field}]:checked`)].map((box) => box.value);

async function load() {
  $("loading").replaceChildren(el("p", { class: "loading" }, "Loading task…"));
  try {
    const [{ items }, task] = await Promise.all([get("tools"), page.task ? get(`tasks/${page.task}`) : null]);
    saved = task;
    tools(items, task?.allowed_tools ?? [], task?.approve_tools ?? []);
    if (task) {
      form.elements.name.value = task.name;
      form.elements.instructions.value = task.instructions;
      form.elements.output_type.value = task.output_type;
      form.elements.active.checked = task.active;
      schema.value = task.output_schema ? indent(JSON.stringify(task.output_schema)) : "";
    }
    sync();
    checkSchema();
    $("loading").replaceChildren();
    form.hidden = false;
  } catch (failure) {
    $("loading").replaceChildren(problem(failure, load));
  }
}

// body is the definition as JSON. The schema goes in as it was typed.
function body() {
  const json = form.elements.output_type.value === "json" && schema.value.trim();
  const fields = {
    name: form.elements.name.value, instructions: form.elements.instructions.value, output_type: form.elements.output_type.value,
    allowed_tools: checked("tool"), approve_tools: checked("approve"), active: form.elements.active.checked,
  };
  return `${JSON.stringify(fields).slice(0, -1)},"output_schema":${json || "null"}}`;
}

async function save() {
  try {
    if (page.task) {
      saved = await call("PUT", `tasks/${page.task}`, body(), { "If-Match": `"${saved.updated_at}"` });
      notify("The task is saved. Existing runs keep their copy.");
    } else {
      const task = await call("POST", `assistants/${page.assistant}/tasks`, body());
      await leave(`tasks/${task.id}`);
    }
  } catch (failure) {
    if (failure.status !== 412) return showFaults(form, failure);
    const over = await ask({ title: "The task has changed since you opened it", yes: "Reload the task", danger: false,
      text: "Your changes are not saved. Copy what you want to keep, then reload the task." });
    if (over !== null) location.reload();
  }
}

form.addEventListener("change", sync);
schema.addEventListener("input", checkSchema);
$("format").addEventListener("click", () => {
  if (!checkSchema()) schema.value = indent(schema.value);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clear(form);
  const wrong = form.elements.output_type.value === "json" && checkSchema();
  if (wrong) {
    fault(form, "output_schema", wrong);
    $("schema-state").textContent = ""; // it is the same text
    schema.focus();
    return;
  }
  busy(event.submitter, save);
});
$("delete")?.addEventListener("click", async (event) => {
  const sure = await ask({ title: "Delete this task?", yes: "Delete task",
    text: "New triggers that name this task will be rejected. Existing runs keep their copy." });
  if (sure === null) return;
  busy(event.target, async () => {
    try {
      await call("DELETE", `tasks/${page.task}`);
      await leave(`assistants/${page.assistant}/tasks`);
    } catch (failure) {
      notify(failure);
    }
  });
});
load();
