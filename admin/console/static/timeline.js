// Where the time of a run went: waiting, models, tools.

import { duration, el } from "./dom.js";

const most = 40; // bars

// Timeline gathers spans from events and draws them.
export class Timeline {
  constructor(place) {
    this.place = place;
    this.spans = [];
    this.tools = new Map();
  }

  // connected stops the clock while it is not known whether the run continues.
  connected(live) {
    this.lost = live ? undefined : this.lost ?? Date.now();
    if (this.begin !== undefined) this.frame ??= requestAnimationFrame(() => this.draw());
  }

  add({ event_type: type, created_at: created, payload: p }) {
    const at = Date.parse(created);
    this.begin ??= at;
    this.latest = at;
    switch (type) {
      case "run_queued":
      case "run_requeued":
        this.close(at);
        this.wait = this.open("queue", "Queue", at);
        break;
      case "run_started":
        this.end(this.wait, at);
        this.work = at;
        break;
      case "input_requested":
        this.close(at);
        this.wait = this.open("input", "Waiting for input", at);
        break;
      case "input_received":
        this.end(this.wait, at);
        this.wait = this.open("queue", "Queue", at);
        break;
      case "model_completed":
        this.work = at;
        this.spans.push({ kind: "model", label: p.model || "Model", from: Math.max(this.begin, at - Number(p.duration_ms ?? 0)), to: at });
        break;
      case "tool_started":
        this.tools.set(p.call_id, this.open("tool", p.tool, at));
        break;
      case "tool_completed":
      case "tool_failed":
        this.end(this.tools.get(p.call_id), at);
        this.work = at;
        break;
      case "run_completed": case "run_failed": case "run_cancelled": case "run_timed_out":
        this.close(at);
        this.done = at;
    }
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  open(kind, label, from) {
    const span = { kind, label, from };
    this.spans.push(span);
    return span;
  }

  end(span, at) {
    if (span) span.to ??= at;
  }

  // close ends what is open: the attempt is over.
  close(at) {
    for (const span of this.spans) span.to ??= at;
    this.work = undefined;
  }

  // underWay is what no event has reported yet: a model works, or another part of the
  // assistant.
  underWay() {
    if (this.work === undefined || this.spans.some((span) => span.to === undefined)) return [];
    return [{ kind: "work", label: "In progress", from: this.work }];
  }

  draw() {
    this.frame = undefined;
    clearTimeout(this.timer);
    const now = this.done ?? Math.max(this.latest, this.lost ?? Date.now());
    const whole = Math.max(now - this.begin, 1);
    const length = (span) => (span.to ?? now) - span.from;
    const sum = (kind) => {
      const spans = this.spans.filter((s) => s.kind === kind);
      return [spans.length, spans.reduce((ms, s) => ms + length(s), 0)];
    };
    const totals = [["queue", "Queue"], ["input", "Waiting for input"], ["model", "Model"], ["tool", "Tools"]].map(([kind, label]) => {
      const [n, ms] = sum(kind);
      return n > 0 && el("span", { class: `total ${kind}` }, `${label} ${duration(ms)}${n > 1 ? ` in ${n}` : ""}`);
    });
    const open = this.done ? [] : this.underWay();
    const shown = [...this.spans.toSorted((a, b) => a.from - b.from).slice(0, most), ...open];
    this.place.replaceChildren(
      el("p", { class: "totals" }, ...totals, el("span", { class: "total" }, `Total ${duration(now - this.begin)}${this.done ? "" : this.lost ? " when the connection was lost" : " so far"}`)),
      el("ol", { class: "bars" }, shown.map((span) => {
        const bar = el("span", { class: `fill ${span.kind}` });
        bar.style.left = `${((span.from - this.begin) / whole) * 100}%`;
        bar.style.width = `${(length(span) / whole) * 100}%`;
        return el("li", {}, el("span", { class: "label" }, span.label),
          el("span", { class: "track", "aria-hidden": "true" }, bar),
          el("span", { class: "ms" }, duration(length(span)), span.to === undefined && " …"));
      })),
      this.spans.length > most ? el("p", { class: "quiet" }, `${this.spans.length - most} more are in the totals.`) : "");
    if (!this.done && !this.lost) this.timer = setTimeout(() => this.draw(), 1000);
  }
}
