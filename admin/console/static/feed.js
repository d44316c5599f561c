// The list of a run's events, as they come. It keeps all of them; only rows in view are
// on the page, so that the page stays fast with any number of events.

import { $, announce, block, el, number, when } from "./dom.js";
import { short, summary, tones } from "./events.js";

const margin = 10; // rows that are on the page above and below the view

// Feed shows events. Pieces of streamed text that follow each other share a row. All
// rows have the same height, apart from the payload of an open one.
export class Feed {
  constructor(list) {
    this.list = list;
    this.view = list.parentElement;
    this.all = []; // rows, oldest first
    this.type = ""; // the only type that is shown; "": all
    this.types = new Map();
    this.events = 0;
    this.following = false; // the newest row stays in view
    this.reset();
    $("feed-type").addEventListener("change", (e) => this.filter(e.target.value));
    this.view.addEventListener("scroll", () => {
      this.following = this.view.scrollTop + this.view.clientHeight >= this.view.scrollHeight - 4;
      this.later();
    });
    list.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => {
      this.height = 0; // rows are higher on narrow screens
      this.later();
    }).observe(this.view);
  }

  add(event) {
    this.events++;
    if (event.event_type === "message_delta" && this.pieces) {
      this.pieces.text += event.payload.text;
      this.pieces.count++;
    } else {
      const row = { type: event.event_type, event };
      this.pieces = event.event_type === "message_delta" ? Object.assign(row, { text: event.payload.text, count: 1 }) : null;
      this.push(row);
      this.count(event.event_type);
    }
    if (this.pieces) this.last = this.pieces;
    this.begin ??= new Date(event.created_at);
    this.later();
  }

  gap(from, to) {
    this.pieces = null;
    this.push({ type: "", gap: `Events ${from} to ${to} of this conversation have been purged.` });
    this.later();
  }

  push(row) {
    this.all.push(row);
    if (this.matches(row)) this.shown.push(row);
  }

  // count offers a type in the filter once an event of it has come.
  count(type) {
    if (!this.types.has(type)) $("feed-type").append(el("option", { value: type }, type));
    this.types.set(type, (this.types.get(type) ?? 0) + 1);
  }

  matches(row) {
    return !this.type || row.type === this.type || !row.type; // a gap may have hidden any type
  }

  filter(type) {
    this.type = type;
    this.reset();
    this.following = false;
    this.view.scrollTop = 0;
    this.draw();
  }

  reset() {
    this.shown = this.all.filter((row) => this.matches(row));
    this.list.replaceChildren();
    this.elements = new Map(); // by index: rows that are on the page
    this.opened = new Map(); // by index: how much higher an open row is
    this.active = 0; // the row that Tab leads to
    this.height = 0; // of a closed row; 0: not known
  }

  later() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  top(index) {
    let y = index * this.height;
    for (const [i, more] of this.opened) if (i < index) y += more;
    return y;
  }

  // at is the index of the row at a position.
  at(y) {
    let low = 0, high = this.shown.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.top(middle) <= y) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = undefined;
    if (this.view.clientWidth === 0) return; // in a hidden panel: it draws when its size changes
    announce($("feed-count"), this.total());
    if (this.last?.what) this.last.what.textContent = pieces(this.last);
    if (this.shown.length === 0) return;
    if (!this.height) this.measure();
    this.list.style.height = `${this.top(this.shown.length)}px`;
    if (this.following) this.view.scrollTop = this.view.scrollHeight;
    const { scrollTop, clientHeight } = this.view;
    this.render(Math.max(0, this.at(scrollTop) - margin), Math.min(this.shown.length, this.at(scrollTop + clientHeight) + 1 + margin));
  }

  // render puts the rows of a range on the page, in order, and takes others off. The
  // row with the focus stays.
  render(from, to) {
    const focused = [...this.elements].find(([, element]) => element.contains(document.activeElement))?.[0];
    const want = Array.from({ length: to - from }, (_, i) => from + i);
    if (focused < from) want.unshift(focused);
    if (focused >= to) want.push(focused);
    if (!want.includes(this.active)) this.active = this.at(this.view.scrollTop); // Tab leads into view
    const wanted = new Set(want);
    for (const [index, element] of this.elements) {
      if (wanted.has(index)) continue;
      element.remove();
      this.elements.delete(index);
    }
    let next = this.list.firstElementChild;
    for (const index of want) {
      let element = this.elements.get(index);
      if (element && element === next) next = next.nextElementSibling;
      else {
        element ??= this.row(this.shown[index], index);
        this.list.insertBefore(element, next);
        this.elements.set(index, element);
      }
      element.style.transform = `translateY(${this.top(index)}px)`;
      element.firstElementChild.tabIndex = index === this.active ? 0 : -1;
      if (this.opened.has(index)) this.extend(index);
    }
  }

  measure() {
    const element = this.row(this.shown[0], 0);
    element.querySelector("pre")?.remove();
    this.list.append(element);
    this.height = element.offsetHeight;
    element.remove();
  }

  // extend notes how high an open row is.
  extend(index) {
    const more = this.elements.get(index).offsetHeight - this.height;
    if (this.opened.get(index) === more) return;
    this.opened.set(index, more);
    this.later();
  }

  total() {
    if (this.events === 0) return "No events yet.";
    const all = `${number(this.events)} ${this.events === 1 ? "event" : "events"}`;
    const rows = this.types.get(this.type) ?? 0;
    return this.type ? `${number(rows)} ${rows === 1 ? "row" : "rows"} of ${all}` : all;
  }

  toggle(index) {
    if (this.opened.has(index)) this.opened.delete(index);
    else this.opened.set(index, 0);
    const old = this.elements.get(index);
    const element = this.row(this.shown[index], index);
    old.replaceWith(element);
    this.elements.set(index, element);
    element.firstElementChild.focus({ preventScroll: true });
    this.following = false;
    this.draw();
  }

  key(event) {
    if (!event.target.matches(".line") || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.view.clientHeight / this.height) - 1), last = this.shown.length - 1;
    const next = {
      ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page, PageUp: this.active - page, Home: 0, End: last,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.go(Math.min(Math.max(next, 0), last));
  }

  // go moves the focus to a row.
  go(index) {
    this.active = index;
    const top = this.top(index), bottom = this.top(index + 1), { scrollTop, clientHeight } = this.view;
    if (top < scrollTop) this.view.scrollTop = top;
    else if (bottom > scrollTop + clientHeight) this.view.scrollTop = Math.min(top, bottom - clientHeight);
    this.following = false;
    this.draw();
    this.elements.get(index)?.firstElementChild.focus({ preventScroll: true });
  }

  row(row, index) {
    const place = { class: "event", "aria-setsize": this.shown.length, "aria-posinset": index + 1 };
    if (row.gap) return el("li", place, el("p", { class: "line quiet", tabindex: "-1" }, row.gap));
    const { event } = row;
    const time = when(event.created_at);
    time.textContent = `+${((new Date(event.created_at) - this.begin) / 1000).toFixed(3)} s`;
    const open = this.opened.has(index);
    row.what = el("span", { class: "what", dir: "auto" }, row.count ? pieces(row) : summary(event));
    return el("li", place,
      el("button", {
        type: "button", class: "line", "aria-expanded": String(open),
        click: () => this.toggle(index), focus: () => (this.active = index),
      }, el("span", { class: "sequence" }, String(event.sequence)), " ", time, " ",
      el("span", { class: `type ${tones[event.event_type] ?? ""}` }, event.event_type), " ", row.what),
      open && block(JSON.stringify(row.count > 1 ? { text: row.text } : event.payload, null, 2), "Payload"));
  }
}

const pieces = ({ text, count }) => `${number(count)} × ${short(text)}`;
