// Follows a run, or a whole conversation, with the browser's own EventSource.
//
// EventSource reconnects after a lost connection and sends the id of the last event
// that it received. After any response but 200 it closes without a reason: the end
// (204), a missing session (401) and a proxy whose server restarts (502) look the
// same. This page then sends one request by fetch to find the reason.
"use strict";

const terminal = new Set(["run_completed", "run_failed", "run_cancelled", "run_timed_out"]);
const pause = 3000;
const params = new URLSearchParams(location.search);
const conversation = params.get("conversation");
const run = params.get("run");

const form = document.querySelector("form");
const state = document.getElementById("state");
const texts = document.getElementById("texts");
const events = document.getElementById("events");

let last = 0; // the id of the last event that is shown
let source;
const messages = new Map(); // run id → the message that it streams

// collect adds an event to the text of its run. A message ends with
// message_completed, and the next message_delta begins another one. An attempt
// begins with run_started: pieces of a message that was not complete are dropped. If events
// are missing, what follows is only the rest of a message, and is not shown.
function collect(event) {
  let message = messages.get(event.run_id);
  if (!message) messages.set(event.run_id, message = { line: line(event.run_id), sequence: 0, text: "" });
  if (event.sequence !== message.sequence + 1) Object.assign(message, { text: "", whole: false, missing: true });
  message.sequence = event.sequence;
  const text = event.payload.text ?? "";
  switch (event.event_type) {
    case "run_started":
      if (!message.whole) Object.assign(message, { text: "", missing: false });
      break;
    case "message_delta":
      if (message.whole) Object.assign(message, { text: "", whole: false, missing: false });
      if (!message.missing) message.text += text;
      break;
    case "message_completed":
      // A text that is too long for one event is shortened. The pieces are not.
      if (text && !(text.endsWith("…") && message.text.length > text.length)) message.text = text;
      message.whole = true;
  }
  message.line.textContent = message.text;
}

// line adds a line for the text of a run to the page.
function line(id) {
  const paragraph = document.createElement("p");
  const label = document.createElement("b");
  if (!run) label.textContent = `Run ${id}: `;
  const text = document.createElement("span");
  paragraph.append(label, text);
  texts.append(paragraph);
  return text;
}

// The position is in the URL, because a new EventSource has no last event.
function stream() {
  const url = new URL(`../conversations/${encodeURIComponent(conversation)}/agent-events`, location.href);
  if (run) url.searchParams.set("run_id", run);
  if (last > 0) url.searchParams.set("after_event_id", last);
  return url;
}

function setStatus(what) {
  state.textContent = what;
}

function show(what) {
  const item = document.createElement("li");
  item.textContent = what;
  events.append(item);
}

function open() {
  source = new EventSource(stream());
  source.onopen = () => setStatus("Connected.");
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.id <= last) return;
    last = event.id;
    show(`${event.id} ${event.event_type} ${JSON.stringify(event.payload)}`);
    collect(event);
    if (run && terminal.has(event.event_type)) {
      source.close(); // no event follows the last event of a run
      setStatus("The run has ended.");
    }
  };
  source.addEventListener("gap", (message) => {
    const gap = JSON.parse(message.data);
    show(`Events from ${gap.from_id} to ${gap.to_id} were purged.`);
  });
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) {
      ask();
    } else {
      setStatus("Reconnecting…");
    }
  };
}

// ask finds out why EventSource has closed.
async function ask() {
  const abort = new AbortController();
  let status = 0;
  try {
    const answer = await fetch(stream(), { signal: abort.signal, cache: "no-store" });
    status = answer.status;
    if (status === 410) {
      const purged = (await answer.json()).purged_to;
      show(`Events from ${last + 1} to ${purged} were purged.`);
      last = purged;
      return open();
    }
  } catch {
    // no connection
  } finally {
    abort.abort();
  }
  switch (status) {
    case 204: return setStatus("All runs have ended.");
    case 400: return setStatus("The run is not a run ID or run key.");
    case 401: return signIn();
    case 404: return setStatus("The conversation does not exist.");
  }
  setStatus("The server is unavailable. Retrying…");
  setTimeout(open, pause);
}

// signIn shows a link to the sign-in page, which leads back here.
function signIn() {
  const link = document.createElement("a");
  link.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = "Sign in";
  state.replaceChildren("You are not signed in. ", link);
}

form.elements.conversation.value = conversation ?? "";
form.elements.run.value = run ?? "";
if (conversation) open();
