// Erasing a conversation, from its page or from that of a run.

import { call } from "./api.js";
import { ask, busy, leave, notify, notifyNext } from "./dom.js";

// erase asks, erases and goes to a list.
export async function erase(conversation, button, list) {
  const sure = await ask({
    title: `Erase conversation ${conversation}?`, yes: "Erase",
    text: "All of its runs are deleted now, with their messages, results, events and callbacks. This cannot be undone.",
  });
  if (sure === null) return;
  await busy(button, async () => {
    try {
      await call("DELETE", `conversations/${conversation}`);
      notifyNext(`Conversation ${conversation} is erased.`);
      await leave(list);
    } catch (failure) {
      if (failure.status === 409) notify("A run of this conversation has not ended. Cancel it first.", "bad");
      else notify(failure);
    }
  });
}
