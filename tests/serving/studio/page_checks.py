"""Programs that a browser runs on a page: what is too wide, too pale, or without a name."""

from __future__ import annotations

OVERFLOWING = """() => {
  if (document.documentElement.scrollWidth <= innerWidth) return [];
  return [...document.querySelectorAll("body *")]
    .filter((node) => node.getBoundingClientRect().right > innerWidth + 0.5 && !node.parentElement.closest(".scroll"))
    .map((node) => node.outerHTML.slice(0, 80));
}"""
"""The elements that reach beyond the right edge of the window."""

LOW_CONTRAST = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const over = (top, bottom) => top.rgb.map((value, i) => value * top.a + bottom[i] * (1 - top.a));
  const background = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      layers.push(color);
      if (color.a === 1) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (first, second) => {
    const [low, high] = [luminance(first), luminance(second)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !node.checkVisibility() || node.closest(":disabled, .visually-hidden")) continue;
    const style = getComputedStyle(node);
    const color = parse(node instanceof SVGElement ? style.fill : style.color);
    const behind = background(node);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = contrast(over(color, behind), behind);
    if (ratio < (isLarge ? 3 : 4.5)) found.push({ text: text.slice(0, 40), ratio });
  }
  return found;
}"""
"""The texts whose contrast to their background is below WCAG 2.2 AA, by computed styles, without disabled controls."""

UNNAMED_CONTROLS = """() => {
  const controls = "a, button, input, select, textarea, iframe, summary, [role=region]";
  const name = (node) =>
    node.labels?.[0]?.textContent || node.getAttribute("aria-label") || node.title || node.textContent;
  return [...document.querySelectorAll(controls)]
    .filter((node) => node.checkVisibility() && !name(node).trim())
    .map((node) => node.outerHTML.slice(0, 80));
}"""
"""The controls without a text, a label or a title."""
