import { call, get } from "./api.js";
import { $, ask, busy, copyable, focusOn, notify, problem, when } from "./dom.js";
import { assistants, filterForm, offerAssistants } from "./filters.js";
import { clear, fault } from "./form.js";

const { assistant_id: assistant } = filterForm($("filter"), "signing-secrets", ["assistant_id"]);
const path = `assistants/${assistant}/signing-secrets`;

let count; // of the secrets that are set; undefined: not known

// create returns a new secret: whsec_ and the Base64 of 32 random bytes.
const create = () => `whsec_${btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(32))))}`;

function show({ secrets, set_at: set }) {
  count = secrets;
  const text = ["No secret of its own: the secrets of the service apply, if there are any.",
    "One secret signs each callback.", "Two secrets sign each callback, the new one and the old one."][secrets];
  $("state").replaceChildren(text);
  if (set) $("state").append(secrets ? " Set: " : " Removed: ", when(set), ".");
  const active = document.activeElement;
  $("roll").textContent = secrets === 0 ? "Create secret" : "Roll secret";
  $("roll").hidden = secrets === 2; // the old one must go first
  $("finish").hidden = secrets !== 2;
  $("remove").hidden = secrets === 0;
  if (active && !active.checkVisibility()) focusOn($("state-title")); // its button went
}

async function load() {
  try {
    show(await get(path));
  } catch (failure) {
    $("state").replaceChildren(problem(failure, load));
  }
}

// put sends secrets and shows the new state. A secret that was shown before is hidden.
async function put(button, body, done) {
  await busy(button, async () => {
    try {
      show(await call("PUT", path, body));
      $("created").hidden = true;
      $("secret").replaceChildren();
      done();
    } catch (failure) {
      if (!failure.errors?.length) notify(failure);
      else {
        fault($("set"), "secrets", failure.errors.map((e) => e.detail).join("; "));
        $("secrets").focus();
      }
    }
  });
}

$("roll").addEventListener("click", async (event) => {
  const first = count === 0;
  const sure = first ? "" : await ask({ title: "Roll the secret?", yes: "Roll secret", danger: false,
    text: "A new secret is created and shown once. From now on, both secrets sign each callback, until you remove the old one." });
  if (sure === null) return;
  const secret = create();
  await put(event.target, { secrets: [secret], keep_newest: !first }, () => {
    $("secret").replaceChildren(copyable(secret, "the secret"));
    $("next").textContent = first ? "Give it to the receivers." : "Give it to the receivers. Then remove the old secret.";
    $("created").hidden = false;
    $("created-title").focus();
    notify(first ? "The secret is created." : "The secret is rolled.");
  });
});

$("finish").addEventListener("click", async (event) => {
  const sure = await ask({ title: "Remove the old secret?", yes: "Remove", text: "Receivers that do not have the new secret will reject callbacks." });
  if (sure !== null) await put(event.target, { secrets: [], keep_newest: true }, () => notify("The old secret is removed."));
});

$("remove").addEventListener("click", async (event) => {
  const sure = await ask({ title: "Remove all secrets of this assistant?", yes: "Remove all",
    text: "Callbacks are then signed with the secrets of the service, or not at all. This cannot be undone." });
  if (sure !== null) await put(event.target, { secrets: [] }, () => notify("The secrets are removed."));
});

$("set").addEventListener("submit", async (event) => {
  event.preventDefault();
  clear($("set"));
  const secret = $("secrets").value.trim();
  const replaced = count === 0 || await ask({ title: "Replace all secrets of this assistant?", yes: "Set secret",
    text: "Receivers that do not have this secret will reject callbacks." }) !== null;
  if (!replaced) return;
  await put(event.submitter, { secrets: [secret] }, () => {
    $("set").reset();
    notify("The secret is set.");
  });
});

offerAssistants($("filter").elements.assistant_id, assistant);
if (assistant) {
  $("state-card").hidden = $("set-card").hidden = false;
  $("name").textContent = assistant;
  assistants().then((names) => ($("name").textContent = names.get(assistant) ?? assistant));
  load();
}
