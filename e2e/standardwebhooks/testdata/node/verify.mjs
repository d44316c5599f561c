// Reads secrets and callbacks, and says which secret verifies which callback.
// A body that was tampered with must never pass.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const { secrets, callbacks } = JSON.parse(readFileSync(0, "utf8"));

function verifies(webhook, body, headers) {
  try {
    webhook.verify(body, headers);
    return true;
  } catch {
    return false;
  }
}

const verdicts = secrets.map((secret) => {
  const webhook = new Webhook(secret);
  return callbacks.map(({ headers, body }) => {
    if (verifies(webhook, body + " ", headers)) {
      throw new Error("a body that was changed verifies");
    }
    return verifies(webhook, body, headers);
  });
});
console.log(JSON.stringify(verdicts));
