// A list whose newest page is live.

import { $, announce, isOpen } from "./dom.js";
import { here } from "./filters.js";
import { list } from "./table.js";
import { repeat } from "./turns.js";

const pause = 3000; // between two looks at the newest page

// liveList shows a list in #list and its connection in #live. The newest page is loaded
// again and again. It does not move while the pointer or the focus is in it, or while it
// is paused with #pause: items that are listed change where they are, others wait for
// #waiting. noun is the word for one item and for several. each is called at each look, and
// loaded with each page. With still, the list is loaded once. liveList returns the function
// that looks now.
export function liveList({ path, table, none, filter, noun, still = false, each = () => {}, loaded = () => {} }) {
  // Of runs in the order of their age, only those that are open change.
  const changes = filter.order !== "oldest" || filter.status.length > 0 && filter.status.every(isOpen);
  const live = !here.has("cursor") && changes && !still;
  let paused = false, latest = [];

  const inUse = () => table.element.matches(":hover") || table.element.contains(document.activeElement);

  function show(items) {
    latest = items;
    if (table.rows.size > 0 && live && (paused || inUse())) {
      const waiting = table.update(items);
      $("waiting").hidden = waiting === 0;
      $("waiting").textContent = `Show ${waiting} new ${noun[waiting === 1 ? 0 : 1]}`;
      return;
    }
    $("waiting").hidden = true;
    table.show(items);
  }

  const look = repeat(async () => {
    each();
    try {
      const page = await list(path, table, none, filter, look, show);
      if (page) loaded(page);
      announce($("live"), live ? paused ? "Paused" : "Live" : "", "live on");
    } catch (failure) {
      announce($("live"), failure.lost ? "Connection lost. Retrying…" : "", "live off");
      if (!failure.lost) return false;
    }
    return live;
  }, pause);

  $("waiting").addEventListener("click", () => {
    $("waiting").hidden = true;
    table.show(latest);
    table.element.querySelector("a")?.focus();
  });
  $("pause").hidden = !live;
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").textContent = paused ? "Resume" : "Pause";
    announce($("live"), paused ? "Paused" : "Live");
    if (!paused) show(latest);
  });
  table.element.addEventListener("pointerleave", () => setTimeout(() => show(latest)));
  look();
  return look;
}
