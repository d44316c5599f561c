// Changes of many items: count them, ask, change them call by call, report.

import { call } from "./api.js";
import { ask, busy, notify } from "./dom.js";

// redelivery has the words of callbacks that are sent again.
export const redelivery = {
  noun: ["callback", "callbacks"], verb: "Redeliver", past: "will be sent again", danger: false,
  text: "Each receiver gets one more POST with the same run key. It may have acted on an earlier one already.",
};

const amount = (n, more, [one, many]) => `${n.toLocaleString()}${more ? " or more" : ""} ${n === 1 ? one : many}`;

// bulk changes what body selects. words has the noun (one, many), the verb of the
// question and the button, the consequence and the past form. It resolves to whether
// it has changed an item.
export async function bulk(button, path, body, words) {
  return busy(button, async () => {
    try {
      const { count, more } = await call("POST", path, { ...body, dry_run: true });
      if (count === 0) {
        notify(`There are no ${words.noun[1]} to ${words.verb.toLowerCase()}.`, "plain");
        return false;
      }
      const what = amount(count, more, words.noun);
      const sure = await ask({ title: `${words.verb} ${what}?`, text: words.text, yes: `${words.verb} ${what}`, danger: words.danger });
      if (sure === null) return false;
      return await change(path, body, words);
    } catch (failure) {
      notify(failure);
      return false;
    }
  });
}

// change repeats the call until nothing is left of the filter, and reports what was done. It
// resolves to whether an item has changed, also before a call that failed.
async function change(path, body, words) {
  const results = { done: 0, conflict: 0, not_found: 0, failed: 0, detail: "" };
  for (let cursor = null; ;) {
    let items, next;
    try {
      ({ items, next } = await call("POST", path, cursor ? { ...body, cursor } : body));
    } catch (failure) {
      if (!cursor) throw failure;
      report(results, words, `${failure.message} The others are unchanged.`);
      return results.done > 0;
    }
    for (const item of items) {
      results[item.result]++;
      results.detail ||= item.detail ?? "";
    }
    if (!next) {
      report(results, words);
      return results.done > 0;
    }
    cursor = next;
    notify(`${amount(results.done, false, words.noun)} ${words.past} so far…`, "plain");
  }
}

function report({ done, conflict, not_found, failed, detail }, words, fault) {
  const parts = [`${amount(done, false, words.noun)} ${words.past}.`];
  if (conflict) parts.push(`${conflict.toLocaleString()} changed meanwhile.`);
  if (not_found) parts.push(`${not_found.toLocaleString()} no longer exist.`);
  if (failed) parts.push(`${failed.toLocaleString()} failed${detail ? `: ${detail}` : ""}.`);
  if (fault) parts.push(fault);
  notify(parts.join(" "), failed || fault ? "bad" : "good");
}

// Selection are the items that are checked in a table.
export class Selection {
  constructor(changed) {
    this.ids = new Map(); // by text: an id may be more than a number of JavaScript holds
    this.changed = changed;
  }

  // column is the column of checkboxes. name describes an item.
  column(name) {
    return {
      label: "Select", class: "select", cell: (item) => {
        const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: this.ids.has(String(item.id)), ariaLabel: `Select ${name(item)}` });
        box.addEventListener("change", () => {
          if (box.checked) this.ids.set(String(item.id), item.id);
          else this.ids.delete(String(item.id));
          this.changed();
        });
        return box;
      },
    };
  }

  clear(element) {
    this.ids.clear();
    for (const box of element.querySelectorAll(".select input")) box.checked = false;
    this.changed();
  }
}
