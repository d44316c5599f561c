// Follows a run, or a whole conversation, with the browser's own EventSource.
//
// EventSource reconnects by itself after a lost connection, and sends the id of
// the last event that it got. What it cannot do is tell why it gave up: at any
// answer but 200 it is closed, and does not say whether that was the end (204), a
// missing session (401) or a proxy whose server restarts (502). So this page
// then asks once by fetch.
"use strict";

const terminal = new Set(["run_completed", "run_failed", "run_cancelled", "run_timed_out"]);
const pause = 3000;
const params = new URLSearchParams(location.search);
const conversation = params.get("conversation");
const run = params.get("run");

const form = document.querySelector("form");
const state = document.getElementById("state");
const text = document.getElementById("text");
const events = document.getElementById("events");

let last = 0; // the id of the last event that is shown
let source;

// A new EventSource knows nothing of the events before: the place is in the URL.
function stream() {
  const url = new URL(`../conversations/${encodeURIComponent(conversation)}/agent-events`, location.href);
  if (run) url.searchParams.set("run_id", run);
  if (last > 0) url.searchParams.set("after_event_id", last);
  return url;
}

function say(what) {
  state.textContent = what;
}

function show(what) {
  const item = document.createElement("li");
  item.textContent = what;
  events.append(item);
}

function open() {
  source = new EventSource(stream());
  source.onopen = () => say("Connected.");
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.id <= last) return;
    last = event.id;
    show(`${event.id} ${event.event_type} ${JSON.stringify(event.payload)}`);
    if (event.event_type === "message_delta") text.textContent += event.payload.text;
    if (run && terminal.has(event.event_type)) {
      source.close(); // nothing follows the last event of a run
      say("The run has ended.");
    }
  };
  source.addEventListener("gap", (message) => {
    const gap = JSON.parse(message.data);
    show(`Events from ${gap.from_id} to ${gap.to_id} have been purged.`);
  });
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) {
      ask();
    } else {
      say("Reconnecting …");
    }
  };
}

// ask finds out why EventSource has given up.
async function ask() {
  const abort = new AbortController();
  let status = 0;
  try {
    const answer = await fetch(stream(), { signal: abort.signal, cache: "no-store" });
    status = answer.status;
    if (status === 410) {
      const purged = (await answer.json()).purged_to;
      show(`Events from ${last + 1} to ${purged} have been purged.`);
      last = purged;
      return open();
    }
  } catch {
    // the network, or a proxy
  } finally {
    abort.abort();
  }
  switch (status) {
    case 204: return say("All runs have ended.");
    case 400: return say("That is not a run.");
    case 401: return say("Sign in first, at /login.");
    case 404: return say("There is no such conversation, or it is not yours.");
  }
  say("The server cannot answer now. Trying again …");
  setTimeout(open, pause);
}

form.elements.conversation.value = conversation ?? "";
form.elements.run.value = run ?? "";
if (conversation) open();
