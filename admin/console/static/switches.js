// The two switches of an assistant's channel.

import { call, get } from "./api.js";
import { el, notify } from "./dom.js";

// switches shows settings, as the API gave them, and changes them one after the other. A
// change leaves the other setting as it is stored now: it may have been changed elsewhere.
export function switches(settings, about = "") {
  const path = `assistants/${settings.assistant_id}/channel`, boxes = {};
  let now = settings, last = Promise.resolve();

  async function put(field, value) {
    const { enabled, allow_callback_urls } = await get(path);
    now = await call("PUT", path, { enabled, allow_callback_urls, [field]: value });
  }

  const one = (field, label, hint) => {
    const box = el("input", { type: "checkbox", role: "switch", "aria-label": about ? `${label}, ${about}` : undefined });
    boxes[field] = box;
    box.checked = now[field];
    box.addEventListener("click", (event) => box.ariaBusy && event.preventDefault()); // its change is under way
    box.addEventListener("change", async () => {
      const value = box.checked;
      box.ariaBusy = "true";
      const change = last.then(() => put(field, value));
      last = change.catch(() => {});
      try {
        await change;
        notify(`${label}: ${now[field] ? "on" : "off"}.`);
      } catch (failure) {
        notify(failure);
      }
      box.ariaBusy = null;
      for (const [name, other] of Object.entries(boxes)) if (!other.ariaBusy) other.checked = now[name];
    });
    return el("label", { class: "switch" }, box, el("span", {}, label, hint && el("small", {}, hint)));
  };
  return {
    enabled: one("enabled", "Accepts triggers", !about && "When off, new triggers are rejected. Existing runs continue."),
    callbacks: one("allow_callback_urls", "Allow Callback URLs", !about && "Checked when a trigger is created. Turning this off does not cancel pending callbacks."),
  };
}
