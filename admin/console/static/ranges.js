// Quick ranges of time. The address has the name of the range, so that a saved address
// always means the time before it is opened.

import { el } from "./dom.js";
import { here } from "./filters.js";
import { localTime, utc } from "./form.js";

const ranges = [["", "Any time"], ["1h", "Last hour", 1], ["24h", "Last 24 hours", 24], ["7d", "Last 7 days", 168], ["30d", "Last 30 days", 720]];

// range is the time that the address asks for.
export function range() {
  const hours = ranges.find(([name]) => name && name === here.get("range"))?.[2];
  if (hours) return { range: here.get("range"), from: new Date(Date.now() - hours * 3_600_000).toISOString(), to: "" };
  return { range: "", from: here.get("from") ?? "", to: here.get("to") ?? "" };
}

// quickRanges are links to the same page with another range.
export function quickRanges(place) {
  const { range: chosen, from, to } = range();
  place.replaceChildren(...ranges.map(([name, text]) => {
    const search = new URLSearchParams(here);
    for (const key of ["range", "from", "to", "cursor"]) search.delete(key);
    if (name) search.set("range", name);
    const current = name ? name === chosen : !chosen && !from && !to;
    return el("a", { class: "chip", href: `?${search}`, "aria-current": current ? "true" : undefined }, text);
  }));
}

// showRange fills the fields of a form; a quick range leaves them empty.
export function showRange(form) {
  const { range: chosen, from, to } = range();
  form.elements.from.value = !chosen && from ? localTime(from) : "";
  form.elements.to.value = to ? localTime(to) : "";
}

// formRange is the range that the fields of a form ask for.
export function formRange(form) {
  const from = utc(form.elements.from.value), to = utc(form.elements.to.value);
  return from || to ? { range: "", from, to } : { range: range().range, from: "", to: "" };
}
