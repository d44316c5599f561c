// The two switches of an assistant's channel.

import { call } from "./api.js";
import { el, notify } from "./dom.js";

// switches shows settings, as the API gave them, and changes them.
export function switches(settings, about = "") {
  let now = settings;
  const one = (field, label, hint) => {
    const box = el("input", { type: "checkbox", role: "switch", "aria-label": about ? `${label}, ${about}` : undefined });
    box.checked = now[field];
    box.addEventListener("change", async () => {
      box.disabled = true;
      try {
        now = await call("PUT", `assistants/${now.assistant_id}/channel`,
          { enabled: now.enabled, allow_callback_urls: now.allow_callback_urls, [field]: box.checked });
        notify(`${label}: ${now[field] ? "on" : "off"}.`);
      } catch (failure) {
        notify(failure);
      }
      box.checked = now[field];
      box.disabled = false;
      box.focus();
    });
    return el("label", { class: "switch" }, box, el("span", {}, label, hint && el("small", {}, hint)));
  };
  return {
    enabled: one("enabled", "Accepts triggers", !about && "When off, new triggers are rejected. Existing runs continue."),
    callbacks: one("allow_callback_urls", "Allow Callback URLs", !about && "Checked when a trigger is created. Turning this off does not cancel pending callbacks."),
  };
}
