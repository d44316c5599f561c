import { Failure, call, get, page } from "./api.js";
import { $, announce, ask, badge, busy, copy, el, empty, focusOn, isOpen, leave, notify, number, problem, when } from "./dom.js";
import { showDeliveries } from "./deliveries.js";
import { erase } from "./erase.js";
import { Feed } from "./feed.js";
import { assistantLink } from "./filters.js";
import { showInputs } from "./inputs.js";
import { curl, request } from "./request.js";
import { RunTranscript } from "./run-transcript.js";
import { follow } from "./stream.js";
import { tabs } from "./tabs.js";
import { Timeline } from "./timeline.js";
import { turns } from "./turns.js";
import { formatted } from "./transcript.js";

const feed = new Feed($("feed"));
const timeline = new Timeline($("timeline"));
const transcript = new RunTranscript(() => run, () => ended());
$("assistant").replaceWith(assistantLink(page.assistant));
const fixed = $("facts").childElementCount; // what the server has written
const begin = turns();
let run; // the latest response
let stale = false; // the last load failed

// The text of the assistant so far, while the run continues.
const draft = { text: "", element: el("p", { class: "text draft", dir: "auto" }), frame: undefined };

// answer shows the run in the response of a request, unless the response of a later
// request is shown already.
async function answer(request) {
  const current = begin();
  const next = await request;
  if (!current()) return;
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
  if (ended() && document.activeElement === $("cancel")) focusOn($("title")); // the button goes
  $("cancel").hidden = ended();
  $("erase").hidden = !ended();
  const facts = [["Created", when(run.created_at)], ["Started", when(run.started_at, "not yet")], ["Ended", when(run.completed_at, "not yet")]];
  if (run.attempts > 1) facts.push(["Attempts", String(run.attempts)]);
  if (run.usage) facts.push(["Tokens", `${number(run.usage.input_tokens)} in, ${number(run.usage.output_tokens)} out`]);
  if (run.callback_url) facts.push(["Callback", el("code", {}, run.callback_url)]);
  for (const old of [...$("facts").children].slice(fixed)) old.remove(); // the others may have the focus
  $("facts").append(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  $("result").replaceChildren(...result());
  showInputs(run, async () => {
    await load();
    return run;
  });
  if (run.callback_url) showDeliveries(page.run);
  feed.following ||= feed.events === 0 && !ended();
  transcript.update().then(() => transcript.rejected && $("result").replaceChildren(...result()));
}

const ended = () => run && !isOpen(run.status);

function result() {
  if (run.status === "queued") return [empty(run.behind ? "The run waits for the earlier runs of its conversation." : "The run waits for a free worker.")];
  if (run.status === "running") return [draft.text ? draft.element : empty("The run is in progress.")];
  if (run.status === "waiting") return [empty("The run waits for the answer to the request above.")];
  if (run.result === null) {
    const rejected = run.status === "failed" && transcript.rejected;
    return [
      el("div", { class: `notice ${run.status === "cancelled" ? "plain" : "bad"}` },
        el("p", { dir: "auto" }, run.error_message ?? (run.status === "cancelled" ? "The run was cancelled." : "There is no result."))),
      ...(rejected ? [el("h3", {}, "Rejected answer"), formatted(rejected, "json")] : []),
    ];
  }
  return [run.result === "" ? empty("The result is empty.") : formatted(run.result, run.task?.output_type, "Result")];
}

function addText(event) {
  if (event.event_type === "message_delta") draft.text += event.payload.text;
  else if (event.event_type === "message_completed") draft.fresh = true;
  else if (event.event_type === "run_requeued") draft.text = ""; // the next attempt starts without it
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
  live: ["Live", "on"], lost: ["Connection lost. Retrying…", "off"], ended: ["Complete", ""],
  "signed-out": ["You are signed out.", "off"], absent: ["You do not have access to these events.", "off"],
};

follow(page.run, {
  event(event) {
    feed.add(event);
    timeline.add(event);
    transcript.event(event);
    addText(event);
    // The run has more fields than the event, such as its result.
    if (/^(run|input)_/.test(event.event_type) && run && !ended() && event.event_type !== "run_queued") load();
  },
  gap: (from, to) => feed.gap(from, to),
  state(state) {
    const [text, tone] = states[state];
    announce($("live"), text, `live ${tone}`);
    timeline.connected(state !== "lost");
    if (state === "live" && stale || state === "ended" && !ended()) load();
    if (state === "signed-out") notify(new Failure(401)); // which links to the sign-in page
  },
});

$("cancel").addEventListener("click", async (event) => {
  const reason = await ask({ title: "Cancel this run?", yes: "Cancel run", field: "Reason (optional)",
    text: "The assistant is asked to stop. Work that is already done is not undone." });
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

$("again").addEventListener("click", async (event) => {
  if (!run) return;
  const sure = await ask({ title: "Run again?", yes: "Run again", danger: false,
    text: "A new run gets the same input, in a new conversation, with the task as it is now. No callback is sent." });
  if (sure === null) return;
  busy(event.target, async () => {
    try {
      const next = await call("POST", `assistants/${page.assistant}/test-trigger`, request(run));
      await leave(`runs/${next.run_id}`);
    } catch (failure) {
      const reasons = failure.errors?.map(({ pointer, detail }) => `${pointer.slice(1)} ${detail}`).join("; ");
      notify(reasons ? new Failure(failure.status, { detail: `${failure.message} ${reasons}` }) : failure);
    }
  });
});

// The line takes the key from a variable of the shell: the console does not have it.
$("curl").addEventListener("click", async () => {
  if (!run) return;
  const line = curl(page.triggerUrl, '"Authorization: Bearer $WEBTRIGGER_KEY"', request(run, "conversation_key", "callback_url"));
  if (await copy(line)) notify("The curl line is copied. Set WEBTRIGGER_KEY to an API key of this assistant.");
});

$("erase").addEventListener("click", (event) => erase(page.conversation, event.target, "runs"));
$("more").addEventListener("click", (event) => busy(event.target, () => transcript.more()));
tabs($("tabs"));
load();
