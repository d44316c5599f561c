// What is wrong with a form, shown where it is wrong.

import { Failure } from "./api.js";
import { el, notify } from "./dom.js";

let marks = 0;

export function clear(form) {
  for (const mark of form.querySelectorAll(".fault")) mark.remove();
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    const before = field.dataset.describedBy;
    if (before) field.setAttribute("aria-describedby", before);
    else field.removeAttribute("aria-describedby");
  }
}

// fault marks the field of a form with what is wrong with it.
export function fault(form, name, text) {
  const field = form.elements[name] instanceof Element ? form.elements[name] : form.querySelector(`#${CSS.escape(name)}`);
  if (!field) return false;
  const mark = el("span", { class: "fault", id: `fault-${++marks}` }, text);
  if (field.tagName === "FIELDSET") field.append(mark);
  else field.after(mark);
  field.dataset.describedBy ??= field.getAttribute("aria-describedby") ?? "";
  field.setAttribute("aria-describedby", `${mark.id} ${field.dataset.describedBy}`.trim());
  field.setAttribute("aria-invalid", "true");
  field.closest("details")?.setAttribute("open", "");
  return true;
}

// showFaults shows why the API has rejected a form.
export function showFaults(form, failure) {
  const elsewhere = [];
  for (const { pointer, detail } of failure.errors ?? []) {
    const name = pointer.split("/")[1] ?? "";
    const where = pointer.split("/").slice(2).join("/");
    if (!fault(form, name, where ? `${where}: ${detail}` : detail)) elsewhere.push(`${name} ${detail}`.trim());
  }
  if (failure.errors?.length) notify(new Failure(failure.status, { detail: elsewhere.join("; ") || "Some fields are invalid." }));
  else notify(failure);
  form.querySelector("[aria-invalid]")?.focus();
}

// jsonFault returns the fault of a JSON text, or null if it has none.
export function jsonFault(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    const at = /position (\d+)/.exec(error.message);
    if (!at) return error.message;
    const before = text.slice(0, Number(at[1])).split("\n");
    return `${error.message.replace(/ \(line.*| in JSON.*/, "")} (line ${before.length}, column ${before.at(-1).length + 1})`;
  }
}

// utc is the value of a datetime-local field as the API takes it.
export const utc = (value) => (value ? new Date(value).toISOString() : "");

// localTime is a time as a datetime-local field takes it.
export function localTime(time) {
  const t = new Date(time);
  return Number.isNaN(t.getTime()) ? "" : new Date(t - t.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
