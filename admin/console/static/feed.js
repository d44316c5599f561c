// The list of a run's events, as they come.

import { duration, el, number, when } from "./dom.js";

const most = 2000; // rows on the page; the oldest go

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

// Feed shows events. Pieces of streamed text that follow each other share a row.
export class Feed {
  constructor(list) {
    this.list = list;
    this.waiting = [];
    this.dropped = 0;
  }

  add(event) {
    if (event.event_type === "message_delta" && this.pieces) {
      this.pieces.text += event.payload.text;
      this.pieces.count++;
      this.pieces.dirty = true;
    } else {
      const row = this.row(event);
      this.waiting.push(row.element);
      this.pieces = event.event_type === "message_delta" ? { ...row, text: event.payload.text, count: 1, dirty: true } : null;
    }
    if (this.pieces) this.last = this.pieces;
    this.begin ??= new Date(event.created_at);
    this.frame ??= requestAnimationFrame(() => this.flush());
  }

  gap(from, to) {
    this.pieces = null;
    this.waiting.push(el("li", { class: "quiet" }, `Events ${from} to ${to} of this trigger have been purged.`));
    this.frame ??= requestAnimationFrame(() => this.flush());
  }

  flush() {
    this.frame = undefined;
    if (this.last?.dirty) {
      this.last.dirty = false;
      this.last.what.textContent = `${this.last.count} × ${short(this.last.text)}`;
    }
    this.list.append(...this.waiting.splice(0));
    while (this.list.childElementCount > most) {
      this.list.firstElementChild.remove();
      this.dropped++;
    }
    if (this.dropped) this.list.setAttribute("start", this.dropped + 1);
  }

  row(event) {
    const at = new Date(event.created_at) - (this.begin ?? new Date(event.created_at));
    const time = when(event.created_at);
    time.textContent = `+${(at / 1000).toFixed(3)} s`;
    const what = el("span", { class: "what" }, summary(event));
    const payload = el("pre", { tabindex: "0" });
    const details = el("details", {
      toggle: () => {
        if (details.open && !payload.textContent) payload.textContent = JSON.stringify(event.payload, null, 2);
      },
    }, el("summary", {},
      el("span", { class: "sequence" }, String(event.sequence)), " ", time, " ",
      el("span", { class: `type ${tones[event.event_type] ?? ""}` }, event.event_type), " ", what), payload);
    return { element: el("li", {}, details), what };
  }
}
