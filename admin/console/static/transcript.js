// The messages of a conversation as a chat, with the tool calls in them.

import { badge, block, el, when } from "./dom.js";
import { indent } from "./json.js";
import { markdown } from "./markdown.js";

const long = 4000; // characters from which a text scrolls by itself

const authors = { user: "Caller", assistant: "Assistant", tool: "Tool" };

// formatted is a text of the assistant by the type of the run's result.
export function formatted(text, type, label = "JSON") {
  if (type === "markdown") return el("div", { class: "markdown", dir: "auto" }, markdown(text));
  if (type === "json" && isJSON(text)) return el("pre", { tabindex: "0", role: "region", "aria-label": label }, indent(text));
  return el("p", { class: "text", dir: "auto" }, text);
}

function isJSON(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

// pretty is a text indented if it is JSON.
const pretty = (value) => {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return isJSON(text) ? indent(text) : text;
};

const short = (text) => (text.length > 100 ? `${text.slice(0, 100)}…` : text);

// Transcript shows messages. type returns the output type of a run by its id, now or
// later. run makes a link to a run; without it, runs are not named.
export class Transcript {
  constructor(list, { type, run }) {
    Object.assign(this, { list, type, link: run });
    this.clear();
  }

  clear() {
    this.list.replaceChildren();
    this.calls = new Map(); // by run and id of a call: where its result goes
    this.run = undefined; // of the last message
  }

  // add appends messages and returns the first of their elements.
  add(messages) {
    let first;
    for (const message of messages) {
      const element = this.message(message);
      if (!element) continue; // within an earlier one
      this.list.append(element);
      first ??= element;
    }
    return first;
  }

  message(m) {
    if (m.role === "tool" && this.answer(m.run_id, m.tool_call_id, m.content)) return null;
    const fresh = String(m.run_id) !== this.run;
    this.run = String(m.run_id);
    const body = el("div", { class: "body" });
    if (m.content.length > long) Object.assign(body, { tabIndex: 0, role: "region", ariaLabel: `Message of the ${authors[m.role] ?? m.role}` });
    if (m.role === "assistant" && m.content) this.format(body, m);
    else if (m.content) body.append(el("p", { class: "text", dir: "auto" }, m.content));
    return el("li", { class: `message ${m.role}` },
      el("p", { class: "by" }, el("strong", {}, authors[m.role] ?? m.role), m.rejected && [" ", badge("rejected", "bad")], fresh && this.link && [" ", this.link(m.run_id)], m.created_at && [" ", when(m.created_at)]),
      body.hasChildNodes() && body, (m.tool_calls ?? []).map((call) => this.call(m.run_id, call)));
  }

  async format(body, m) {
    body.append(formatted(m.content, "")); // until the type is known
    const type = await this.type(m.run_id);
    if (type) body.replaceChildren(formatted(m.content, type));
  }

  // call is a tool call, whose result is added later.
  call(run, { id, name, arguments: given }) {
    const result = el("div", {}, el("p", { class: "quiet" }, "No result is stored."));
    const state = el("span", { class: "quiet" });
    this.calls.set(`${run} ${id}`, { result, state });
    return el("details", { class: "call" },
      el("summary", {}, el("code", {}, name), " ", el("span", { class: "quiet", dir: "auto" }, short(typeof given === "string" ? given : JSON.stringify(given) ?? "")), " ", state),
      el("h3", {}, "Arguments"), block(pretty(given), "Arguments"), el("h3", {}, "Result"), result);
  }

  // answer shows the result of a call, and reports whether the call is known.
  answer(run, id, text, failed = false) {
    const call = this.calls.get(`${run} ${id}`);
    if (!call) return false;
    call.result.replaceChildren(block(pretty(text), "Result"));
    call.state.textContent = failed ? "failed" : "";
    return true;
  }
}
