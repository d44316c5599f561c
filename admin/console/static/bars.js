// Stacked bars as SVG. Each bar is a link with a text, so that it can be read and reached
// without seeing it.

const svg = (name, attributes, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

const height = 180, base = 158, top = 14, label = 60; // label: the space of a label

// bars draws steps: {label, text, href, values}. series are the names and classes of the
// values; format shows a height of the axis.
export function bars(title, steps, series, format = (n) => n.toLocaleString()) {
  const sums = steps.map((step) => step.values.reduce((a, b) => a + b, 0));
  const highest = 2 * Math.ceil(Math.max(2, ...sums) / 2); // its half is a whole number too
  const width = matchMedia("(max-width: 40rem)").matches ? 360 : matchMedia("(max-width: 64rem)").matches ? 680 : 960; // about as wide as it is shown: texts keep their size
  const slot = width / steps.length, scale = (base - top) / highest;
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "bars-chart", role: "group", "aria-label": title });
  for (const part of [0.5, 1]) {
    const y = base - part * (base - top);
    chart.append(svg("line", { x1: 0, x2: width, y1: y, y2: y, class: "grid" }), svg("text", { x: 2, y: y - 3, class: "axis" }, format(highest * part)));
  }
  steps.forEach((step, i) => {
    const link = svg("a", { href: step.href, "data-id": step.href, "aria-label": step.text });
    link.append(svg("title", {}, step.text), svg("rect", { x: i * slot, y: top, width: slot, height: base - top, class: "hit" }));
    let y = base;
    step.values.forEach((value, n) => {
      if (!value) return;
      const h = Math.max(value * scale, 1.5);
      link.append(svg("rect", { x: i * slot + slot * 0.12, y: y -= h, width: slot * 0.76, height: h, class: `bar ${series[n].class}` }));
    });
    chart.append(link);
  });
  const every = Math.ceil(steps.length / (width / (2 * label)));
  steps.forEach((step, i) => {
    if (i % every !== 0) return;
    const place = i * slot + label > width ? { x: width, "text-anchor": "end" } : { x: i * slot + 2 };
    chart.append(svg("text", { ...place, y: height - 6, class: "axis" }, step.label));
  });
  chart.append(svg("line", { x1: 0, x2: width, y1: base, y2: base, class: "grid" }));
  return chart;
}
