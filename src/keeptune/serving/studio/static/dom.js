// Builds elements. Texts become text nodes, never markup, so that rows and answers cannot add elements.

const SVG = "http://www.w3.org/2000/svg";

let fields = 0;

/** An element with attributes, listeners (`onclick` and the like) and children; null and false children are left out. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An element of an SVG image. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...present(children));
  return node;
}

/** Replaces what a node contains. */
export function fill(node, ...children) {
  node.replaceChildren(...present(children));
}

function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** A labeled field of a form; `control` is an input, a select or a textarea. */
export function field(label, control, kind = "") {
  fields += 1;
  control.id = `field-${fields}`;
  return element("div", { class: `field ${kind}` }, element("label", { for: control.id }, label), control);
}

/** A select with [value, text] options. */
export function select(options, chosen, onchange, attributes = {}) {
  const node = element("select", { ...attributes, onchange: () => onchange(node.value) });
  setOptions(node, options, chosen);
  return node;
}

/** Replaces the options of a select. */
export function setOptions(node, options, chosen) {
  fill(node, options.map(([value, text]) => element("option", { value }, text)));
  node.value = chosen;
}

/** A short text with a color and a sign, so that the color is not needed. */
export function chip(kind, text) {
  return element("span", { class: `chip ${kind}` }, text);
}

/** A message about an error, which screen readers announce. */
export function alert(message) {
  return element("p", { class: "alert", role: "alert" }, message);
}

/** Tells screen readers what has changed. */
export function announce(message) {
  document.getElementById("status").textContent = message;
}

/** A table in a frame of its own that scrolls sideways. The first cell of each row is its head. */
export function table(caption, head, rows) {
  const cell = (tag, value, scope) => element(tag, { scope }, value);
  return element(
    "div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    element(
      "table", {},
      element("thead", {}, element("tr", {}, head.map((text) => cell("th", text, "col")))),
      element("tbody", {}, rows.map(([first, ...others]) => element(
        "tr", {}, cell("th", first, "row"), others.map((value) => cell("td", value))))),
    ),
  );
}
