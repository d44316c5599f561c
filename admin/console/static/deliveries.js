// The callback deliveries of a run.

import { call, get } from "./api.js";
import { $, ask, badge, busy, duration, el, notify, problem, when } from "./dom.js";

const pause = 2000;
const open = new Set(["pending", "sending"]);
let timer;

// showDeliveries shows them, and reloads them while one is pending or sending.
export async function showDeliveries(run) {
  clearTimeout(timer);
  try {
    const { items } = await get(`runs/${run}/deliveries`);
    $("deliveries-card").hidden = false;
    $("deliveries").replaceChildren(items.length
      ? el("ol", { class: "deliveries" }, items.map((d, i) => delivery(d, i + 1, i === items.length - 1, run)))
      : el("p", { class: "quiet" }, "The callback is sent when the run ends."));
    if (items.some((d) => open.has(d.state))) timer = setTimeout(() => showDeliveries(run), pause);
  } catch (failure) {
    if (failure.status === 404) return; // deliveries may be another's to see
    $("deliveries-card").hidden = false;
    $("deliveries").replaceChildren(problem(failure, () => showDeliveries(run)));
  }
}

function delivery(d, n, last, run) {
  const facts = [["Created", when(d.created_at)], ["Attempted", when(d.attempted_at)], ["Ended", when(d.completed_at, "not yet")]];
  if (d.http_status) facts.push(["HTTP status", String(d.http_status)]);
  if (d.latency_ms !== null) facts.push(["Latency", duration(d.latency_ms)]);
  if (d.error) facts.push(["Error", d.error]);
  return el("li", {},
    el("p", { class: "head" }, el("span", {}, el("strong", {}, `Delivery ${n}`), " ", badge(d.state)),
      last && !open.has(d.state) && el("button", { class: "small", click: (e) => redeliver(d, run, e.target) }, "Redeliver")),
    el("p", {}, el("code", {}, d.url)),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    d.response && el("details", {}, el("summary", {}, "Receiver response"), el("pre", { tabindex: "0" }, d.response)));
}

async function redeliver(d, run, button) {
  const sure = await ask({ title: "Send the callback again?", yes: "Send again", danger: false,
    text: `One more POST goes to ${d.url}. The receiver may already have acted on an earlier one.` });
  if (sure === null) return;
  await busy(button, async () => {
    try {
      await call("POST", `deliveries/${d.id}/redeliver`);
      notify("Redelivery scheduled.");
    } catch (failure) {
      notify(failure);
    }
    await showDeliveries(run);
  });
}
