// The list of a run's events, as they come.

import { $, duration, el, focusOn, number, when } from "./dom.js";

const step = 1000; // rows that are added to the page at a time

const tones = {
  run_completed: "good", run_failed: "bad", run_timed_out: "bad", tool_failed: "bad", cancel_requested: "wait",
  run_started: "busy", run_requeued: "wait",
};

// summary is an event in a line.
function summary({ event_type: type, payload: p }) {
  switch (type) {
    case "run_started": return `attempt ${p.attempt}`;
    case "cancel_requested": return p.reason ?? "";
    case "run_requeued": return p.reason ?? "";
    case "message_completed": return short(p.text);
    case "tool_started": return `${p.tool} ${short(p.arguments)}`;
    case "tool_completed": return `${p.tool} → ${short(p.result)}`;
    case "tool_failed": return `${p.tool}: ${short(p.error)}`;
    case "model_completed":
      return [p.model, typeof p.duration_ms === "number" && duration(p.duration_ms),
        p.usage && `${number(p.usage.input_tokens)} in, ${number(p.usage.output_tokens)} out`].filter(Boolean).join(" · ");
    case "run_completed": case "run_failed": case "run_cancelled": case "run_timed_out":
      return [p.status_detail, p.error_message].filter(Boolean).join(": ");
  }
  return Object.keys(p ?? {}).length ? short(p) : "";
}

function short(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return text.length > 160 ? `${text.slice(0, 160)} …` : text;
}

const element = (row) => (row.element ??= row.make());

const pieces = ({ text, count }) => `${count} × ${short(text)}`;

// Feed shows events. Pieces of streamed text that follow each other share a row. It
// keeps all rows; the newest are on the page, and a button shows earlier ones. A row has
// no element before it is shown.
export class Feed {
  constructor(list) {
    this.list = list;
    this.all = []; // rows, oldest first
    this.type = ""; // the only type that is shown; "": all
    this.most = step;
    this.flushed = 0; // rows of all that the filter by type has checked
    this.shown = []; // rows of the type
    this.types = new Map();
    this.earlier = el("button", { type: "button", class: "earlier", hidden: true, click: () => this.showEarlier() });
    list.before(this.earlier);
    $("feed-type").addEventListener("change", (e) => this.filter(e.target.value));
  }

  add(event) {
    if (event.event_type === "message_delta" && this.pieces) {
      this.pieces.text += event.payload.text;
      this.pieces.count++;
    } else {
      const row = { type: event.event_type, make: () => this.row(event, row) };
      this.pieces = event.event_type === "message_delta" ? Object.assign(row, { text: event.payload.text, count: 1 }) : null;
      this.all.push(row);
      this.count(event.event_type);
    }
    if (this.pieces) this.last = this.pieces;
    this.begin ??= new Date(event.created_at);
    this.frame ??= requestAnimationFrame(() => this.flush());
  }

  gap(from, to) {
    this.pieces = null;
    this.all.push({ type: "", make: () => el("li", { class: "quiet" }, `Events ${from} to ${to} of this trigger have been purged.`) });
    this.frame ??= requestAnimationFrame(() => this.flush());
  }

  // count offers a type in the filter once an event of it has come.
  count(type) {
    if (!this.types.has(type)) $("feed-type").append(el("option", { value: type }, type));
    this.types.set(type, (this.types.get(type) ?? 0) + 1);
  }

  filter(type) {
    this.type = type;
    this.most = step;
    this.flushed = 0;
    this.shown = [];
    this.list.replaceChildren();
    this.flush();
  }

  flush() {
    this.frame = undefined;
    this.last?.what?.replaceChildren(pieces(this.last));
    const fresh = this.all.slice(this.flushed).filter((row) => !this.type || row.type === this.type || !row.type);
    this.flushed = this.all.length;
    this.shown.push(...fresh);
    this.list.append(...fresh.slice(-this.most).map(element));
    while (this.list.childElementCount > this.most) this.list.firstElementChild.remove();
    this.button();
  }

  showEarlier() {
    this.most += step;
    const first = this.list.firstElementChild;
    const from = this.shown.length - this.list.childElementCount;
    this.list.prepend(...this.shown.slice(Math.max(0, from - step), from).map(element));
    this.button();
    focusOn(this.earlier.hidden ? first : this.earlier);
  }

  button() {
    const hidden = this.shown.length - this.list.childElementCount;
    this.earlier.hidden = hidden === 0;
    const text = `Show ${number(Math.min(hidden, step))} of ${number(hidden)} earlier events`;
    if (this.earlier.textContent !== text) this.earlier.textContent = text;
  }

  row(event, about) {
    const at = new Date(event.created_at) - (this.begin ?? new Date(event.created_at));
    const time = when(event.created_at);
    time.textContent = `+${(at / 1000).toFixed(3)} s`;
    const what = el("span", { class: "what", dir: "auto" }, about.count ? pieces(about) : summary(event));
    about.what = what;
    const payload = el("pre", { tabindex: "0" });
    const details = el("details", {
      toggle: () => {
        if (details.open && !payload.textContent) payload.textContent = JSON.stringify(event.payload, null, 2);
      },
    }, el("summary", {},
      el("span", { class: "sequence" }, String(event.sequence)), " ", time, " ",
      el("span", { class: `type ${tones[event.event_type] ?? ""}` }, event.event_type), " ", what), payload);
    return el("li", {}, details);
  }
}
