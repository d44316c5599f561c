// Lists as tables, which are cards on small screens. Roles are spelled out, since
// browsers drop those of a table that is displayed otherwise.

import { get, query } from "./api.js";
import { $, el, empty, keepFocus, problem } from "./dom.js";
import { turns } from "./turns.js";

// Table shows items in columns: {label, cell(item), wide}. A wide one has the room of
// two on a card. Shown again, a row whose item
// has not changed stays as it is, with its focus.
export class Table {
  constructor(label, columns) {
    this.columns = columns;
    this.rows = new Map();
    this.body = el("tbody", { role: "rowgroup" });
    this.element = el("table", { role: "table", "aria-label": label },
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
        columns.map((c) => el("th", { role: "columnheader", scope: "col" }, c.label)))),
      this.body);
  }

  show(items) {
    const rows = new Map();
    for (const item of items) {
      const id = String(item.id), text = JSON.stringify(item);
      const old = this.rows.get(id);
      rows.set(id, old?.text === text ? old : { text, row: this.row(item), fresh: !old && this.rows.size > 0 });
    }
    const order = [...rows.values()].map((r) => r.row);
    keepFocus(this.body, () => {
      for (const [id, { row }] of this.rows) if (rows.get(id)?.row !== row) row.remove();
      order.forEach((row, i) => {
        if (this.body.children[i] !== row) this.body.insertBefore(row, this.body.children[i] ?? null);
      });
    });
    for (const { row, fresh } of rows.values()) row.classList.toggle("fresh", fresh === true);
    this.rows = rows;
  }

  // update shows the items that have a row already, where it is. It returns how many
  // have none.
  update(items) {
    const known = new Map(items.map((item) => [String(item.id), item]));
    let missing = 0;
    for (const id of known.keys()) if (!this.rows.has(id)) missing++;
    keepFocus(this.body, () => {
      for (const [id, old] of this.rows) {
        const item = known.get(id), text = item && JSON.stringify(item);
        if (!item || text === old.text) continue;
        const row = this.row(item);
        old.row.replaceWith(row);
        this.rows.set(id, { text, row, fresh: false });
      }
    });
    return missing;
  }

  row(item) {
    return el("tr", { role: "row", "data-id": item.id }, this.columns.map((c) =>
      el("td", { role: "cell", "data-label": c.label, class: c.class ?? (c.wide && "wide") }, el("div", {}, c.cell(item)))));
  }
}

const begin = turns(); // a page has one list

// list loads one page of a list into #list, and links to the pages around it by
// the address of this page. none(page) is what stands there when there is nothing, again
// what the button does that a failure comes with. show puts items into the table. It
// returns the page, or undefined if a later one is shown already.
export async function list(path, table, none, filter = {}, again = () => list(path, table, none, filter).catch(() => {}), show = (items) => table.show(items)) {
  const place = $("list");
  const here = new URLSearchParams(location.search);
  const cursor = here.get("cursor") ?? "";
  const current = begin();
  try {
    const page = await get(`${path}${query({ ...filter, cursor })}`);
    if (!current()) return undefined;
    if (page.items.length === 0) {
      place.replaceChildren(cursor && !page.next ? empty("No more results.") : none(page));
    } else {
      show(page.items);
      if (place.firstElementChild !== table.element) place.replaceChildren(table.element);
    }
    pager(here, cursor, page.next);
    return page;
  } catch (failure) {
    if (!current()) return undefined;
    if (!failure.lost || place.firstElementChild !== table.element) {
      place.replaceChildren(problem(failure, failure.status === 400 ? null : again));
    }
    if (failure.status === 400) pager(here, "wrong", ""); // an address that no list has given
    throw failure;
  }
}

function pager(here, cursor, next) {
  const link = (text, cursor) => {
    const search = new URLSearchParams(here);
    search.delete("cursor");
    if (cursor) search.set("cursor", cursor);
    return el("a", { class: "button", href: `?${search}` }, text);
  };
  $("pager").replaceChildren(...[cursor && link("Newest", ""), next && link("Older", next)].filter(Boolean));
  $("pager").hidden = !cursor && !next;
}
