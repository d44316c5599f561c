// Small parts that all pages are made of. Text is only ever set as text.

import { page, url } from "./api.js";

export const $ = (id) => document.getElementById(id);

// el makes an element. Attributes that are false or undefined are omitted.
// Functions are listeners. Children are nodes or text.
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

// when shows a time in the reader's zone; the exact UTC is its title.
export function when(time, none = "never") {
  if (!time) return el("span", { class: "quiet" }, none);
  return el("time", { datetime: time, title: exact(time) }, lines(local.formatToParts(new Date(time))));
}

// lines is a date and a time between which a line may break, and nowhere else.
function lines(parts) {
  const joint = parts.findIndex(({ type }) => type === "hour" || type === "dayPeriod") - 1;
  return parts.map(({ value }, i) => i === joint ? value : value.replace(/\s/g, "\u00a0")).join("");
}

const exact = (time) => time.replace("+00:00", " UTC").replace("T", " ");

// isOpen reports whether a run with this status has not ended.
export const isOpen = (status) => ["queued", "running", "waiting"].includes(status);

// duration shows milliseconds for people.
export function duration(ms) {
  if (ms < 1) return "< 1 ms";
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 9995) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  ms = Math.max(ms, 60_000); // after rounding
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1000)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// span shows milliseconds to the minute.
function span(ms) {
  const minutes = Math.floor(ms / 60_000), hours = Math.floor(minutes / 60);
  return minutes < 1 ? "< 1 min" : hours < 1 ? `${minutes} min` : hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// distance shows how far a time is from now.
export function distance(time) {
  const ms = new Date(time) - Date.now();
  return ms < 0 ? `${span(-ms)} ago` : `in ${span(ms)}`;
}

// age shows how long ago a time was, in the first minute to the second.
export function age(time) {
  const ms = Math.max(Date.now() - new Date(time), 0);
  return ms < 60_000 ? `${Math.floor(ms / 1000)} s` : span(ms);
}

// clock is the text of a time, distance or age, which is kept up to date.
export function clock(time, text) {
  const element = el("span", { class: "clock", title: exact(time) }, text(time));
  clocks.set(element, () => {
    const now = text(time);
    if (element.textContent !== now) element.textContent = now;
  });
  ticking ??= setInterval(tick, 1000);
  return element;
}

const clocks = new WeakMap(); // what brings them up to date
let ticking;

function tick() {
  if (document.hidden) return;
  for (const element of document.querySelectorAll(".clock")) clocks.get(element)?.();
}

export const number = (n) => (typeof n === "number" ? n.toLocaleString() : String(n));

// badge is the word for a state, and its colour.
export function badge(state, tone = tones[state] ?? "plain") {
  return el("span", { class: `badge ${tone}` }, state.replaceAll("_", " "));
}

const tones = {
  queued: "wait", waiting: "odd", running: "busy", completed: "good", failed: "bad", cancelled: "plain", timed_out: "bad",
  pending: "wait", sending: "busy", delivered: "good", blocked: "bad", unknown: "odd",
  active: "good", revoked: "plain", expired: "plain", inactive: "plain",
};

// failureText describes a failure, and what the reader can do.
function failureText(failure) {
  if (failure.status === 401) {
    return ["You are signed out. ", page.signIn ? el("a", { href: page.signIn }, "Sign in again") : "Sign in again and reload this page."];
  }
  if (failure.lost) return ["The server cannot be reached or cannot answer now."];
  if (failure.status === undefined) console.error(failure); // a fault of this page
  return [failure.message];
}

// problem shows a failure in place of what could not be loaded.
export function problem(failure, retry) {
  return el("div", { class: "notice bad", role: "alert" },
    el("p", {}, ...failureText(failure)),
    retry && failure.status !== 401 && el("button", { click: retry }, "Try again"));
}

const toastTime = 8000; // how long a confirmation stays
const left = "webtrigger.notice"; // where a message for the next page is

// notifyNext shows a message on the page that is opened next.
export const notifyNext = (text) => sessionStorage.setItem(left, text);

const arrived = sessionStorage.getItem(left);
if (arrived) {
  sessionStorage.removeItem(left);
  queueMicrotask(() => notify(arrived));
}

// notify shows a message in the corner of the window. A failure stays until it is
// dismissed or a later message replaces it.
export function notify(what, tone = "good") {
  const failed = what instanceof Error;
  const toast = el("p", { class: `notice ${failed ? "bad" : tone}` }, el("span", { dir: "auto" }, failed ? failureText(what) : what),
    el("button", { type: "button", class: "plain small", "aria-label": "Dismiss", click: () => toast.remove() }, "×"));
  $("notices").replaceChildren(toast);
  const leave = () => toast.matches(":hover, :focus-within") ? setTimeout(leave, 1000) : toast.remove();
  if (!failed) setTimeout(leave, toastTime);
}

// announce sets a text that assistive technology reads out, if it differs.
export function announce(element, text, className = element.className) {
  if (element.textContent !== text) element.textContent = text;
  if (element.className !== className) element.className = className;
}

const controls = (item) => [...item.querySelectorAll("a[href], button, input, select, summary")].filter((e) => e.checkVisibility());

// focusOn moves the focus to an element, also to one that takes none by itself.
export function focusOn(element) {
  if (!element) return;
  if (!element.matches("a[href], button, input, select, textarea, summary, [tabindex]")) element.setAttribute("tabindex", "-1");
  element.focus();
}

// keepFocus renders a container that consists of items with data-id. If that removes
// the focused control, the focus moves to the same item, or else to the heading.
export function keepFocus(container, render) {
  const active = document.activeElement;
  const item = container.contains(active) ? active.closest("[data-id]") : null;
  const nth = item ? controls(item).indexOf(active) : -1;
  render();
  if (!item || active.isConnected) return;
  const next = container.querySelector(`[data-id="${CSS.escape(item.dataset.id)}"]`);
  focusOn(next ? controls(next)[nth] ?? controls(next)[0] ?? next : container.closest("section, main").querySelector("h1, h2"));
}

// unmatched is what stands in place of a list whose filter matches nothing.
export const unmatched = (items) => empty(`No ${items} match this filter. Select Clear to list all ${items}.`);

const zone = $("zone");
if (zone) zone.textContent = `Times: ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;

export const empty = (...text) => el("p", { class: "empty" }, ...text);

// busy keeps a button from being pressed twice while work is under way. The button
// keeps the focus, which a disabled one would lose.
export async function busy(button, work) {
  if (button.ariaDisabled === "true") return undefined;
  button.ariaDisabled = "true";
  try {
    return await work();
  } finally {
    button.ariaDisabled = null;
  }
}

// leave goes to a page. It does not resolve while that page is being loaded, so that a
// button that waits for it cannot be pressed again.
export const leave = (path) => new Promise((resolve) => {
  setTimeout(resolve, 20_000); // the page did not come
  addEventListener("pageshow", resolve, { once: true }); // the reader returned to this page
  location.assign(url(path));
});

// ask asks the reader to confirm an action. It resolves to null, or to the text of the
// field ("" without one). choice is a selection: a label, then pairs of value and text,
// of which the first is selected.
export function ask({ title, text, yes, danger = true, field, choice }) {
  const dialog = $("dialog");
  $("dialog-title").textContent = title;
  $("dialog-text").textContent = text;
  $("dialog-yes").textContent = yes;
  $("dialog-yes").className = danger ? "danger" : "main";
  $("dialog-field").hidden = !field;
  $("dialog-field").firstElementChild.textContent = field ?? "";
  $("dialog-input").value = "";
  const [label, ...options] = choice ?? [""];
  $("dialog-choice").hidden = !choice;
  $("dialog-choice").firstElementChild.textContent = label;
  $("dialog-select").replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
  $("dialog-no").onclick = () => dialog.close();
  dialog.returnValue = "";
  dialog.showModal();
  const nth = ++asked;
  return new Promise((resolve) => {
    // The event comes a moment late: the dialog may be open again, for the next question.
    const closed = () => {
      if (nth === asked && dialog.open) return;
      dialog.removeEventListener("close", closed);
      resolve(nth === asked && dialog.returnValue ? $(choice ? "dialog-select" : "dialog-input").value : null);
    };
    dialog.addEventListener("close", closed);
  });
}

let asked = 0; // questions until now

// copyable is text with a button that copies it.
export function copyable(text, what) {
  const button = el("button", { type: "button", "aria-label": `Copy ${what}` }, "Copy");
  button.addEventListener("click", async () => {
    if (!await copy(text)) return;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return el("div", { class: "copy" }, el("code", {}, text), button);
}

// block is text of others that may scroll; label names it.
export const block = (text, label) => el("pre", { tabindex: "0", role: "group", "aria-label": label, dir: "auto" }, text);

// copy puts a text into the clipboard and resolves to whether that was possible. The
// focus stays where it is.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // not a secure origin
    const active = document.activeElement;
    const field = el("textarea", { readonly: true, "aria-hidden": "true" }, text);
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    active?.focus({ preventScroll: true });
    if (!done) notify("The browser does not permit copying. Select the text and copy it.", "bad");
    return done;
  }
}
