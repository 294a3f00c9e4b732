// A line chart as an SVG image: one line per series, a grid, and a legend with the last values.

import { element, svg } from "./dom.js";
import { number } from "./i18n.js";

const WIDTH = 640;
const HEIGHT = 240;
const LEFT = 44;
const BOTTOM = 28;
const TOP = 8;
const RIGHT = 8;
const COLORS = 8;

/** The chart of {name: [[x, y], …]}; `label` says what it shows. */
export function lineChart(series, label) {
  const points = Object.values(series).flat();
  const [lastX, highest] = [Math.max(...points.map(([x]) => x)), Math.max(...points.map(([, y]) => y), 1e-9)];
  const [firstX] = [Math.min(...points.map(([x]) => x))];
  const top = niceStep(highest / 4) * Math.ceil(highest / niceStep(highest / 4));
  const place = (x, y) => [
    LEFT + ((WIDTH - LEFT - RIGHT) * (x - firstX)) / Math.max(1, lastX - firstX),
    TOP + (HEIGHT - TOP - BOTTOM) * (1 - y / top),
  ];
  const lines = Object.values(series).map((line, index) => drawn(line, place, `s${index % COLORS}`));
  return element(
    "figure", { class: "chart" },
    svg(
      "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
      grid(top, place, firstX), axis(firstX, lastX, place), lines,
    ),
    legend(series),
  );
}

/** A series as a line, or as a dot where it has one point, because a line of one point is invisible. */
function drawn(line, place, color) {
  const points = line.map(([x, y]) => place(x, y).map((value) => value.toFixed(1)));
  if (points.length > 1) return svg("polyline", { class: `line ${color}`, points: points.map((point) => point.join(",")).join(" ") });
  const [[cx, cy]] = points;
  return svg("circle", { class: `dot ${color}`, cx, cy, r: 4 });
}

function grid(top, place, firstX) {
  const step = niceStep(top / 4);
  const values = Array.from({ length: Math.round(top / step) + 1 }, (_, index) => index * step);
  return values.map((value) => {
    const [x, y] = place(firstX, value);
    return svg(
      "g", {},
      svg("line", { class: "grid", x1: x, x2: WIDTH - RIGHT, y1: y, y2: y }),
      svg("text", { x: x - 6, y: y + 4, "text-anchor": "end" }, number(value, 3)),
    );
  });
}

function axis(firstX, lastX, place) {
  const step = Math.max(1, niceStep((lastX - firstX) / 5));
  const labels = [];
  for (let x = Math.ceil(firstX / step) * step; x <= lastX; x += step) {
    labels.push(svg("text", { x: place(x, 0)[0], y: HEIGHT - 8, "text-anchor": "middle" }, number(x)));
  }
  return labels;
}

function legend(series) {
  const entries = Object.entries(series).map(([name, line], index) => element(
    "li", {}, element("span", { class: `swatch s${index % COLORS}` }), `${name} ${number(line.at(-1)[1], 3)}`,
  ));
  return element("ul", { class: "legend" }, entries);
}

/** The smallest of 1, 2 and 5 times a power of ten that is at least `value`. */
function niceStep(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= value * (1 - 1e-9));
}
