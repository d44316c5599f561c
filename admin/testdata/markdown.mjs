// Renders texts of one shape in two sizes, and prints the shapes whose time grows
// much faster than their size. The argument is the path of markdown.js.
import { readFileSync } from "node:fs";

const source = readFileSync(process.argv[2], "utf8").replace(/import \{ el \} from .*;/, "");
globalThis.el = (tag, attributes, ...children) => ({ tagName: tag.toUpperCase(), childNodes: children.flat() });
globalThis.document = { createDocumentFragment: () => ({ append() {} }) };
const { markdown } = await import("data:text/javascript," + encodeURIComponent(source));

const shapes = {
  "heading, inner spaces": (n) => "# a" + " ".repeat(n) + "b",
  "heading, U+2028": (n) => "# " + " ".repeat(n) + "a\u2028b",
  "heading, hashes": (n) => "# a" + " #".repeat(n / 2) + "b",
  "item, U+2028": (n) => "- " + " ".repeat(n) + "a\u2028b",
  "quote, U+2028": (n) => "> " + " ".repeat(n) + "a\u2028b",
  "fence": (n) => "```" + " ".repeat(n) + "`",
  "table, spaces": (n) => "a|b\n-|-" + " ".repeat(n) + "x",
  "table, cells": (n) => "a|b\n" + "- | ".repeat(n / 4) + "x",
  "rule": (n) => "* ".repeat(n / 2) + "x",
  "rule, spaces": (n) => "*" + " ".repeat(n) + "x",
  "quotes": (n) => ("> ".repeat(100) + "\n").repeat(n / 200),
  "items": (n) => "- a\n".repeat(n / 4),
  "blank items": (n) => "- a\n\n".repeat(n / 5),
  "stars": (n) => "*a".repeat(n / 2),
  "double stars": (n) => "**a".repeat(n / 3),
  "underscores": (n) => "_a".repeat(n / 2),
  "tildes": (n) => "~~a".repeat(n / 3),
  "brackets": (n) => "[".repeat(n),
  "links": (n) => "[a](".repeat(n / 4),
  "link, spaces": (n) => "[a](b" + " ".repeat(n) + "c",
  "backticks": (n) => ("`" + "a".repeat(999)).repeat(n / 1000),
  "address, marks": (n) => "https://a/" + "!".repeat(n) + "x",
  "lines": (n) => "a\n".repeat(n / 2),
};

// time is the processor's time in ms, the best of three where it is too much.
const time = (text, most = 0) => {
  let best = Infinity;
  for (let i = 0; i < 3 && best > most; i++) {
    const start = process.cpuUsage();
    markdown(text);
    best = Math.min(best, process.cpuUsage(start).user / 1000);
  }
  return best;
};

for (const [name, shape] of Object.entries(shapes)) {
  const most = 32 * Math.max(time(shape(8000)), 10);
  const many = time(shape(64000), most);
  if (many > most) console.log(`${name}: ${many} ms, which is more than ${most} ms`);
}
