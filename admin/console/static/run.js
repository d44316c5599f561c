import { Failure, call, get, page, url } from "./api.js";
import { $, ask, badge, busy, el, empty, notify, number, problem, when } from "./dom.js";
import { showDeliveries } from "./deliveries.js";
import { Feed } from "./feed.js";
import { indent } from "./json.js";
import { markdown } from "./markdown.js";
import { follow } from "./stream.js";
import { Timeline } from "./timeline.js";

const feed = new Feed($("feed"));
const timeline = new Timeline($("timeline"));
const fixed = [...$("facts").children]; // what the server has written
let run; // as last told
let asked = 0; // how often the run was asked for
let told = 0; // which of those answers is shown
let stale = false; // the last load failed

// What the assistant has said so far, while the run goes on.
const draft = { text: "", element: el("p", { class: "text draft" }), frame: undefined };

// answer shows the run that a request is answered with, unless a later request
// has been answered already: what that one says is newer.
async function answer(request) {
  const turn = ++asked;
  const next = await request;
  if (turn < told) return;
  told = turn;
  run = next;
  show();
}

async function load() {
  try {
    await answer(get(`runs/${page.run}`));
    stale = false;
  } catch (failure) {
    stale = true;
    $("result").replaceChildren(problem(failure, load));
  }
}

function show() {
  $("status").replaceChildren(badge(run.status), run.status_detail ? ` ${run.status_detail}` : "");
  $("cancel").hidden = ended();
  const facts = [["Created", when(run.created_at)], ["Started", when(run.started_at, "not yet")], ["Ended", when(run.completed_at, "not yet")]];
  if (run.attempts > 1) facts.push(["Attempts", String(run.attempts)]);
  facts.push(["API key", run.key_id ? el("a", { href: url(`runs?assistant_id=${run.assistant_id}&key_id=${run.key_id}`) }, String(run.key_id)) : "none"]);
  if (run.usage) facts.push(["Tokens", `${number(run.usage.input_tokens)} in, ${number(run.usage.output_tokens)} out`]);
  if (run.callback_url) facts.push(["Callback", el("code", {}, run.callback_url)]);
  $("facts").replaceChildren(...fixed, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  $("result").replaceChildren(result());
  if (run.callback_url) showDeliveries(page.run);
}

const ended = () => run && !["queued", "running"].includes(run.status);

function result() {
  if (run.status === "queued") return empty("The run waits for a free worker.");
  if (run.status === "running") return draft.text ? draft.element : empty("The assistant is at work.");
  if (run.result === null) {
    return el("div", { class: `notice ${run.status === "cancelled" ? "plain" : "bad"}` },
      el("p", {}, run.error_message ?? (run.status === "cancelled" ? "The run was cancelled." : "There is no result.")));
  }
  if (run.result === "") return empty("The result is empty.");
  switch (run.task?.output_type) {
    case "markdown": return el("div", { class: "markdown" }, markdown(run.result));
    case "json": return el("pre", { tabindex: "0", role: "region", "aria-label": "Result" }, indent(run.result));
  }
  return el("p", { class: "text" }, run.result);
}

function say(event) {
  if (event.event_type === "message_delta") draft.text += event.payload.text;
  else if (event.event_type === "message_completed") draft.fresh = true;
  else return;
  if (draft.fresh && event.event_type === "message_delta") {
    draft.text = event.payload.text; // the next message begins
    draft.fresh = false;
  }
  draft.frame ??= requestAnimationFrame(() => {
    draft.frame = undefined;
    draft.element.textContent = draft.text;
    if (run?.status === "running" && !draft.element.isConnected) $("result").replaceChildren(draft.element);
  });
}

const states = {
  live: ["Live", "on"], lost: ["Connection lost. Trying again …", "off"], ended: ["Complete", ""],
  "signed-out": ["You are signed out.", "off"], absent: ["The events are not to be seen.", "off"],
};

follow(page.run, {
  event(event) {
    feed.add(event);
    timeline.add(event);
    say(event);
    // The run itself knows more than the event does, such as its result.
    if (event.event_type.startsWith("run_") && run && !ended() && event.event_type !== "run_queued") load();
  },
  gap: (from, to) => feed.gap(from, to),
  state(state) {
    const [text, tone] = states[state];
    $("live").textContent = text;
    $("live").className = `live ${tone}`;
    if (state === "live" && stale || state === "ended" && !ended()) load();
    if (state === "signed-out") notify(new Failure(401)); // which leads to where one signs in
  },
});

$("cancel").addEventListener("click", async (event) => {
  const reason = await ask({ title: "Cancel this run?", yes: "Cancel run", field: "Reason (optional)",
    text: "The assistant is told to stop. What it has done until then stays done." });
  if (reason === null) return;
  busy(event.target, async () => {
    try {
      await answer(call("POST", `runs/${page.run}/cancel`, reason ? { reason } : {}));
      notify(ended() ? "The run is cancelled." : "The run is being cancelled.");
    } catch (failure) {
      notify(failure);
    }
  });
});
load();
