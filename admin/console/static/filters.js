// The filter of a list: it lives in the address of the page.

import { getAll, query, url } from "./api.js";
import { el } from "./dom.js";

export const here = new URLSearchParams(location.search);

// unknownParameters are those of the address that a page does not have. The API rejects
// them, so that a misspelled filter does not list everything.
export const unknownParameters = (known) => Object.fromEntries([...here].filter(([name]) => name !== "cursor" && !known.includes(name)));

// filterForm shows the filter of the address in a form, and goes to the address of a
// form that is sent. change makes the values of the address from those of the fields.
export function filterForm(form, path, names, change = (values) => values) {
  const filter = Object.fromEntries(names.map((name) => [name, here.get(name) ?? ""]));
  for (const name of names) if (form.elements[name]) form.elements[name].value = filter[name];
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const values = change(Object.fromEntries(names.map((name) => [name, form.elements[name]?.value ?? filter[name]])));
    location.assign(url(`${path}${query(values)}`));
  });
  return { ...unknownParameters(names), ...filter };
}

let known;

// assistants are the names by id; empty for a visitor who cannot list them.
export function assistants() {
  known ??= getAll("assistants").then((items) => new Map(items.map((a) => [a.id, a.name ?? a.id])), () => new Map());
  return known;
}

// offerAssistants fills a select and chooses an id, also one that is not listed.
export async function offerAssistants(select, chosen = "") {
  const names = new Map(await assistants());
  if (chosen && !names.has(chosen)) names.set(chosen, chosen);
  select.replaceChildren(select.options[0], ...[...names].map(([id, name]) =>
    el("option", { value: id, dir: "auto", selected: id === chosen }, name === id ? id : `${name} (${id})`)));
}

// assistantLink is a link with the name of an assistant, once it is known.
export function assistantLink(id) {
  const link = el("a", { href: url(`assistants/${id}`), dir: "auto" }, id);
  assistants().then((names) => (link.textContent = names.get(id) ?? id));
  return link;
}
