import { call, page, url } from "./api.js";
import { $, ask, badge, busy, copyable, el, empty, notify, unmatched, when } from "./dom.js";
import { assistantLink, filterForm, offerAssistants } from "./filters.js";
import { clear, fault, showFaults, utc } from "./form.js";
import { curl } from "./request.js";
import { Table, list } from "./table.js";

const all = !page.tab; // over all assistants
const form = $("create");
let filter = {};
if (all) {
  // A whole key stays in this page: its prefix is what the address gets.
  filter = filterForm($("filter"), "keys", ["prefix", "assistant_id", "active"], (values) => ({ ...values, prefix: values.prefix.trim().toLowerCase().slice(0, 8) }));
  offerAssistants($("filter").elements.assistant_id, filter.assistant_id);
  offerAssistants(form.elements.assistant, filter.assistant_id);
}

const hour = 3600;
const graces = [[24 * hour, "1 day"], [hour, "1 hour"], [7 * 24 * hour, "7 days"], [30 * 24 * hour, "30 days"], [0, "Expire immediately"]];

function state(key) {
  if (key.revoked_at) return "revoked";
  return key.expires_at && new Date(key.expires_at) <= new Date() ? "expired" : "active";
}

// rotate creates a new key that replaces another one. The old key stays valid for a while.
async function rotate(key, button) {
  const grace = await ask({
    title: `Rotate ${key.name}?`, yes: "Rotate key", danger: false, choice: ["Keep the old key valid for", ...graces],
    text: `A new key with this name is created and shown once. The key ${key.prefix}… expires after the time that you select, or earlier if it is set to expire earlier.`,
  });
  if (grace === null) return;
  await busy(button, async () => {
    try {
      const next = await call("POST", `keys/${key.id}/rotate`, { grace_period: Number(grace) });
      show(next, `The key ${next.replaced.prefix}… expires: `, when(next.replaced.expires_at), ".");
      notify(`${key.name} is rotated.`);
      await load();
    } catch (failure) {
      notify(failure);
    }
  });
}

async function revoke(key, button) {
  const sure = await ask({
    title: `Revoke ${key.name}?`, yes: "Revoke key",
    text: `Requests with the key ${key.prefix}… will be rejected immediately. This cannot be undone.`,
  });
  if (sure === null) return;
  await busy(button, async () => {
    try {
      await call("POST", `keys/${key.id}/revoke`);
      notify(`${key.name} is revoked.`);
      await load();
    } catch (failure) {
      notify(failure);
    }
  });
}

const columns = [
  { label: "Name", cell: (k) => [el("strong", { dir: "auto" }, k.name), all && el("small", {}, assistantLink(k.assistant_id))] },
  { label: "Prefix", cell: (k) => el("code", { class: "nowrap" }, `${k.prefix}…`) },
  { label: "State", cell: (k) => badge(state(k)) },
  { label: "Scopes", cell: (k) => k.scopes.join(", ") },
  { label: "Created", cell: (k) => when(k.created_at) },
  { label: "Last used", cell: (k) => [when(k.last_used_at), el("small", {}, el("a", { href: url(`runs?assistant_id=${k.assistant_id}&key_id=${k.id}`), "aria-label": `Runs of ${k.name}` }, "Show runs"))] },
  { label: "Expires", cell: (k) => when(k.expires_at) },
  {
    label: "Actions", wide: true, cell: (k) => k.revoked_at ? [el("span", { class: "quiet" }, "revoked "), when(k.revoked_at)]
      : el("span", { class: "actions" },
        state(k) === "active" && el("button", { class: "small", "aria-label": `Rotate ${k.name}`, click: (e) => rotate(k, e.target) }, "Rotate"),
        el("button", { class: "danger small", "aria-label": `Revoke ${k.name}`, click: (e) => revoke(k, e.target) }, "Revoke")),
  },
];
const table = new Table("API keys", columns);
const load = () => list(all ? "keys" : `assistants/${page.assistant}/keys`, table, () => Object.values(filter).some(Boolean)
  ? unmatched("keys") : empty("No API keys yet. Create one to let a caller trigger ", all ? "an assistant." : "this assistant."), filter);

// show shows a new key, which cannot be shown again, and the expiry of the key that it replaces.
function show(key, ...more) {
  $("secret").replaceChildren(copyable(key.key, "the API key"));
  const address = page.triggerUrl.replace("ASSISTANT", encodeURIComponent(key.assistant_id));
  $("curl").replaceChildren(copyable(curl(address, `'Authorization: Bearer ${key.key}'`, '{"message": "What can you do?"}'), "the curl line"));
  $("replaced").replaceChildren(...more);
  $("created").hidden = false;
  $("created-title").focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  clear(form);
  const name = form.elements.name.value.trim(), expires = form.elements.expires_at.value;
  const assistant = all ? form.elements.assistant.value : page.assistant;
  if (!assistant) {
    fault(form, "assistant", "A key needs an assistant.");
    form.elements.assistant.focus();
    return;
  }
  if (!name) {
    fault(form, "name", "A key needs a name.");
    form.elements.name.focus();
    return;
  }
  const scopes = [...form.querySelectorAll("input[name=scope]:checked")].map((box) => box.value);
  if (!scopes.length) {
    fault(form, "scopes", "A key needs at least one scope.");
    form.querySelector("input[name=scope]").focus();
    return;
  }
  busy(event.submitter, async () => {
    try {
      const key = await call("POST", `assistants/${assistant}/keys`, { name, scopes, ...(expires && { expires_at: utc(expires) }) });
      form.reset();
      show(key);
      notify(`${key.name} is created.`);
      await load();
    } catch (failure) {
      showFaults(form, failure);
    }
  });
});
load().catch(() => {});
