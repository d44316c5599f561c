// Tabs within a page: one panel is shown, and the address names it.

// tabs shows the panel that the address names, or else the first. The arrow keys, Home
// and End move between tabs, and Tab leads from the chosen one to its panel.
export function tabs(list) {
  const all = [...list.querySelectorAll("[role=tab]")];
  const name = (tab) => tab.id.replace(/^tab-/, "");
  const panel = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

  function choose(tab) {
    for (const other of all) {
      other.setAttribute("aria-selected", String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
      panel(other).hidden = other !== tab;
    }
  }

  const named = () => all.find((tab) => `#${name(tab)}` === location.hash) ?? all[0];

  function go(tab) {
    choose(tab);
    tab.focus();
    history.replaceState(null, "", `#${name(tab)}`);
  }

  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) go(tab);
  });
  list.addEventListener("keydown", (event) => {
    const i = all.indexOf(event.target), ltr = getComputedStyle(list).direction !== "rtl";
    const next = { ArrowRight: ltr ? i + 1 : i - 1, ArrowLeft: ltr ? i - 1 : i + 1, Home: 0, End: all.length - 1 }[event.key];
    if (i < 0 || next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    go(all[(next + all.length) % all.length]);
  });
  addEventListener("hashchange", () => {
    if (location.hash !== "#main") choose(named()); // where "Skip to the content" leads
  });
  choose(named());
}
