import { get, page } from "./api.js";
import { $, copyable, problem } from "./dom.js";
import { switches } from "./switches.js";

$("url").append(copyable(page.triggerUrl, "the trigger URL"));

async function load() {
  try {
    const { enabled, callbacks } = switches(await get(`assistants/${page.assistant}/channel`));
    $("channel").replaceChildren(enabled, callbacks);
  } catch (failure) {
    $("channel").replaceChildren(problem(failure, load));
  }
}
load();
