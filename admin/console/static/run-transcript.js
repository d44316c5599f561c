// The transcript of one run: what is stored, and until the run ends its events.

import { get, page, query } from "./api.js";
import { $, el, focusOn, problem } from "./dom.js";
import { Transcript } from "./transcript.js";
import { turns } from "./turns.js";

// RunTranscript shows the messages of the run of this page. The store has those of the
// assistant once the run has ended.
export class RunTranscript {
  constructor(run, ended) {
    Object.assign(this, { run, ended });
    this.chat = new Transcript($("transcript"), { type: async () => this.type() });
    this.begin = turns();
    this.live = []; // events of the current attempt
    this.rejected = ""; // the last answer that did not have the required form
  }

  type() {
    return this.run()?.task?.output_type ?? "";
  }

  // update shows the stored messages, again after the end of the run.
  async update() {
    const state = this.ended() ? "ended" : "open";
    if (this.state === state) return;
    this.state = state;
    this.rejected = "";
    this.cursor = "";
    await this.load(true);
  }

  async more() {
    const first = await this.load(false);
    if (first) focusOn(first); // the button may go
  }

  async load(fresh) {
    const current = this.begin();
    try {
      const { items, next } = await get(`conversations/${page.conversation}/messages${query({ run_id: page.run, limit: "100", cursor: this.cursor })}`);
      if (!current()) return null;
      $("transcript-trouble").replaceChildren();
      if (fresh) this.chat.clear();
      for (const m of items) this.mark(m);
      const first = this.chat.add(items);
      this.cursor = next ?? "";
      $("more").hidden = !next;
      this.loaded = true;
      if (this.state === "open") for (const event of this.live) this.show(event);
      return first;
    } catch (failure) {
      if (!current()) return null;
      this.state = undefined;
      $("transcript-trouble").replaceChildren(failure.status === 404 ? el("p", { class: "quiet" }, "You do not have access to the messages.")
        : problem(failure, () => this.update()));
      return null;
    }
  }

  // mark finds answers that the run was not completed with.
  mark(m) {
    if (m.role !== "assistant" || m.tool_calls || this.type() !== "json" || m.content === this.run().result) return;
    m.rejected = true;
    this.rejected = m.content;
  }

  event(event) {
    if (event.event_type === "run_requeued") {
      this.live = [];
      if (this.state === "open") {
        this.state = undefined;
        this.update();
      }
    }
    if (!["message_completed", "tool_started", "tool_completed", "tool_failed"].includes(event.event_type)) return;
    this.live.push(event);
    if (this.loaded && this.state === "open") this.show(event);
  }

  // show shows an event as the message that will be stored.
  show({ event_type: type, payload: p, created_at }) {
    const add = (m) => this.chat.add([{ role: "assistant", run_id: page.run, content: "", created_at, ...m }]);
    if (type === "message_completed") add({ content: p.text });
    else if (type === "tool_started") add({ tool_calls: [{ id: p.call_id, name: p.tool, arguments: p.arguments }] });
    else this.chat.answer(page.run, p.call_id, p.result ?? p.error ?? "", type === "tool_failed");
  }
}
