// The callback deliveries of a run.

import { call, get } from "./api.js";
import { $, ask, badge, block, busy, duration, el, focusOn, keepFocus, notify, problem, when } from "./dom.js";
import { repeat, turns } from "./turns.js";

const pause = 2000;
const open = new Set(["pending", "sending"]);
const begin = turns();
let run; // the run of this page
let items = new Map(); // by id: what an element shows, and the element

// showDeliveries shows them, and reloads them while one is pending or sending. What
// has not changed stays as it is.
export function showDeliveries(id) {
  run = id;
  return look();
}

const look = repeat(async () => {
  const current = begin();
  try {
    const { items: deliveries } = await get(`runs/${run}/deliveries`);
    if (current()) show(deliveries);
    return deliveries.some((d) => open.has(d.state));
  } catch (failure) {
    if (!current()) return false;
    items = new Map();
    $("deliveries").replaceChildren(failure.status === 404 ? el("p", { class: "quiet" }, "You do not have access to the callbacks.")
      : problem(failure, look));
    return false;
  }
}, pause);

function show(deliveries) {
  if (!deliveries.length) {
    $("deliveries").replaceChildren(el("p", { class: "quiet" }, "The callback is sent when the run ends."));
    return;
  }
  $("tab-callback").replaceChildren("Callback ", badge(deliveries.at(-1).state));
  const next = new Map();
  deliveries.forEach((d, i) => {
    const last = i === deliveries.length - 1, id = String(d.id), text = JSON.stringify([d, last]);
    const old = items.get(id);
    next.set(id, old?.text === text ? old : { text, element: delivery(d, i + 1, last, old?.element.querySelector("details")?.open) });
  });
  items = next;
  let list = $("deliveries").querySelector("ol");
  if (!list) $("deliveries").replaceChildren(list = el("ol", { class: "deliveries" }));
  keepFocus(list, () => [...next.values()].forEach(({ element }, i) => {
    if (list.children[i] === element) return;
    if (i < list.childElementCount) list.children[i].replaceWith(element);
    else list.append(element);
  }));
}

// attempted returns when the POST was sent, or why it was not.
function attempted(d) {
  if (d.attempted_at) return when(d.attempted_at);
  if (!d.completed_at) return when("", "not yet");
  return el("span", {}, when(d.completed_at), d.state === "blocked" ? ", blocked: nothing was sent" : ", no connection: nothing was sent");
}

function delivery(d, n, last, expanded) {
  const facts = [["Created", when(d.created_at)], ["Attempted", attempted(d)], ["Ended", when(d.completed_at, "not yet")]];
  if (d.http_status) facts.push(["HTTP status", String(d.http_status)]);
  if (d.latency_ms !== null) facts.push(["Latency", duration(d.latency_ms)]);
  if (d.error) facts.push(["Error", d.error]);
  return el("li", { "data-id": d.id },
    el("p", { class: "head" }, el("span", {}, el("strong", {}, `Delivery ${n}`), " ", badge(d.state)),
      last && !open.has(d.state) && el("button", { class: "small", click: (e) => redeliver(d, e.target) }, "Redeliver")),
    el("p", {}, el("code", {}, d.url)),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    d.response && el("details", { open: expanded }, el("summary", {}, "Receiver response"), block(d.response, "Receiver response")));
}

async function redeliver(d, button) {
  const sure = await ask({ title: "Send the callback again?", yes: "Send again", danger: false,
    text: `One more POST goes to ${d.url}. The receiver may already have acted on an earlier one.` });
  if (sure === null) return;
  await busy(button, async () => {
    try {
      const next = await call("POST", `deliveries/${d.id}/redeliver`);
      notify("Redelivery scheduled.");
      await look();
      focusOn(items.get(String(next.id))?.element);
    } catch (failure) {
      notify(failure);
      await look();
    }
  });
}
