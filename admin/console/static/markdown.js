// Markdown as elements. HTML in it is text, images are links, and links lead to
// http, https and mailto only, so that nothing in it can run or load anything.

import { el } from "./dom.js";

const deepest = 8; // quotes and lists in each other; what is deeper is text

// markdown returns a fragment of the text.
export function markdown(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(...blocks(text.replaceAll("\r\n", "\n").split("\n"), 0));
  return fragment;
}

// Each pattern reads a line once: no two parts of one can take the same characters
// in turns.
const patterns = {
  fence: /^ {0,3}(`{3,}|~{3,})[^`]*$/,
  heading: /^ {0,3}(#{1,6})\s(.*)$/s,
  rule: /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/,
  quote: /^ {0,3}> ?(.*)$/s,
  item: /^( {0,3})([-*+]|\d{1,9}[.)])( +)(.*)$/s,
  cell: /^:?-+:?$/,
};

// title is the text of a heading, without the hashes that close it.
function title(text) {
  const trimmed = text.trim();
  let end = trimmed.length;
  while (trimmed[end - 1] === "#") end--;
  if (end === 0) return "";
  return /\s/.test(trimmed[end - 1]) ? trimmed.slice(0, end).trimEnd() : trimmed;
}

// delimits reports whether a line is the second one of a table.
function delimits(line) {
  if (!line.includes("-") || line.search(/\S/) > 3) return false;
  let text = line.trim();
  if (text.startsWith("|")) text = text.slice(1);
  if (text.endsWith("|")) text = text.slice(0, -1);
  return text.split("|").every((cell) => patterns.cell.test(cell.trim()));
}

function blocks(lines, depth) {
  const out = [];
  let i = 0;
  while (i < lines.length) {
    const line = lines[i];
    let m;
    if (!line.trim()) {
      i++;
    } else if ((m = patterns.fence.exec(line))) {
      const start = ++i;
      while (i < lines.length && !closes(lines[i], m[1])) i++;
      out.push(el("pre", { tabindex: "0", role: "group", "aria-label": "Code" }, el("code", {}, lines.slice(start, i).join("\n"))));
      i++;
    } else if ((m = patterns.heading.exec(line))) {
      // The page has h1 and h2 already.
      out.push(el(`h${Math.min(m[1].length + 2, 6)}`, {}, ...inline(title(m[2]))));
      i++;
    } else if (patterns.rule.test(line)) {
      out.push(el("hr"));
      i++;
    } else if (depth < deepest && patterns.quote.test(line)) {
      const inner = [];
      for (; i < lines.length && (m = patterns.quote.exec(lines[i])); i++) inner.push(m[1]);
      out.push(el("blockquote", {}, ...blocks(inner, depth + 1)));
    } else if (depth < deepest && patterns.item.test(line)) {
      const list = listAt(lines, i, depth);
      out.push(list.element);
      i = list.end;
    } else if (line.includes("|") && i + 1 < lines.length && delimits(lines[i + 1])) {
      const start = i;
      for (i += 2; i < lines.length && lines[i].includes("|"); ) i++;
      out.push(table(lines[start], lines.slice(start + 2, i)));
    } else {
      const start = i++;
      while (i < lines.length && lines[i].trim() && !interrupts(lines[i])) i++;
      out.push(el("p", {}, ...inline(lines.slice(start, i).map((l) => l.trimStart()).join("\n"))));
    }
  }
  return out;
}

const closes = (line, fence) => line.trim().length >= fence.length && line.trim() === fence[0].repeat(line.trim().length);

const interrupts = (line) => ["fence", "heading", "rule", "quote", "item"].some((name) => patterns[name].test(line));

function listAt(lines, i, depth) {
  const ordered = /\d/.test(patterns.item.exec(lines[i])[2]);
  const start = ordered ? parseInt(patterns.item.exec(lines[i])[2], 10) : 1;
  const items = [];
  let m;
  while (i < lines.length && (m = patterns.item.exec(lines[i])) && /\d/.test(m[2]) === ordered && !patterns.rule.test(lines[i])) {
    const inset = m[1].length + m[2].length + Math.min(m[3].length, 4);
    const inner = [m[4]];
    for (i++; i < lines.length; i++) {
      const blank = !lines[i].trim();
      const deeper = lines[i].search(/\S/) >= Math.min(inset, 2);
      if (blank ? !(lines[i + 1]?.search(/\S/) >= Math.min(inset, 2)) : !deeper && patterns.item.test(lines[i])) break;
      if (!blank && !deeper && (interrupts(lines[i]) || !lines[i - 1].trim())) break;
      inner.push(lines[i].slice(Math.min(inset, Math.max(lines[i].search(/\S/), 0))));
    }
    const content = blocks(inner, depth + 1);
    const tight = content[0]?.tagName === "P" && !inner.some((l) => !l.trim());
    items.push(el("li", {}, ...(tight ? [...content[0].childNodes, ...content.slice(1)] : content)));
    if (i < lines.length && !lines[i].trim() && patterns.item.test(lines[i + 1] ?? "")) i++;
  }
  return { element: el(ordered ? "ol" : "ul", { start: ordered && start !== 1 ? start : undefined }, ...items), end: i };
}

function table(head, rows) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((c) => c.trim());
  const names = cells(head);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" }, el("table", {},
    el("thead", {}, el("tr", {}, names.map((c) => el("th", { scope: "col" }, ...inline(c))))),
    el("tbody", {}, rows.map((row) => el("tr", {}, cells(row).slice(0, names.length).map((c) => el("td", {}, ...inline(c))))))));
}

// Each alternative reads to its own end without looking back, in bounded length.
const spans = /(`{1,3})(?!`)([^`]{1,2000})\1(?!`)|!?\[([^[\]]{1,500})\]\(\s*<?([^\s()<>]{1,2000})>?(?:\s+"[^"]{0,200}")?\s*\)|\*\*([^*\n][^*]{0,2000})\*\*|\*([^\s*][^*]{0,2000})\*|(?<!\w)__([^_\n]{1,2000})__(?!\w)|(?<!\w)_([^\s_][^_]{0,2000})_(?!\w)|~~([^~]{1,2000})~~|(https?:\/\/[^\s<>()"'`*]{1,2000})|\\([!-/:-@[-`{-~])/g;

function inline(text, depth = 0) {
  if (depth > deepest) return [text];
  const out = [];
  let end = 0;
  for (const m of text.matchAll(spans)) {
    const [all, , code, label, target, strong, em, strong2, em2, struck, bare, escaped] = m;
    out.push(text.slice(end, m.index));
    end = m.index + all.length;
    if (code !== undefined) out.push(el("code", {}, code.trim() || code));
    else if (label !== undefined) out.push(link(target, inline(label, depth + 1), all));
    else if (strong ?? strong2) out.push(el("strong", {}, ...inline(strong ?? strong2, depth + 1)));
    else if (em ?? em2) out.push(el("em", {}, ...inline(em ?? em2, depth + 1)));
    else if (struck) out.push(el("s", {}, ...inline(struck, depth + 1)));
    else if (bare) {
      let stop = bare.length;
      while (".,;:!?".includes(bare[stop - 1])) stop--;
      const address = bare.slice(0, stop);
      out.push(link(address, [address], address), bare.slice(stop));
    } else out.push(escaped);
  }
  out.push(text.slice(end));
  return out.filter((piece) => piece !== "");
}

// link is a link to elsewhere, or the text as it was written.
function link(target, content, written) {
  let address;
  try {
    address = new URL(target);
  } catch {
    return written; // relative: relative to what?
  }
  if (!["http:", "https:", "mailto:"].includes(address.protocol)) return written;
  return el("a", { href: address.href, rel: "noopener noreferrer nofollow", target: "_blank" }, ...content);
}
