// @ts-check
/** Draws a series as a line in SVG: an hour at a glance, with its last and its largest value. */

import { h } from "/static/shared/dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 72;
// More would be narrower than a dot.
const MOST_POINTS = 180;

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 */
function s(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, String(value));
  }
  return element;
}

/**
 * Fewer values, each the largest of its stretch: a peak must not vanish.
 *
 * @param {(number | null)[]} values
 */
export function thin(values) {
  const step = Math.ceil(values.length / MOST_POINTS) || 1;
  /** @type {(number | null)[]} */
  const thinned = [];
  for (let at = 0; at < values.length; at += step) {
    const known = values.slice(at, at + step).filter((value) => value !== null);
    thinned.push(known.length ? Math.max(...known) : null);
  }
  return thinned;
}

/**
 * The path of a line; where nothing was measured there is a gap, and a lone value is a dot.
 *
 * @param {(number | null)[]} values
 * @param {number} largest
 */
export function pathOf(values, largest) {
  const stepX = WIDTH / Math.max(1, values.length - 1);
  let path = "";
  let drawing = false;
  values.forEach((value, index) => {
    if (value === null) {
      drawing = false;
      return;
    }
    const x = (index * stepX).toFixed(1);
    const y = (HEIGHT - 2 - (value / largest) * (HEIGHT - 6)).toFixed(1);
    path += drawing ? `L${x} ${y}` : `M${x} ${y}h.1`;
    drawing = true;
  });
  return path;
}

/**
 * @param {string} title
 * @param {(number | null)[]} values oldest first
 * @param {string} unit
 */
export function plot(title, values, unit) {
  const points = thin(values);
  const known = points.filter((value) => value !== null);
  const largest = Math.max(1e-9, ...known);
  const last = values.filter((value) => value !== null).at(-1);
  const shown = (/** @type {number | null | undefined} */ value) =>
    value == null ? "–" : `${Number(value.toFixed(1))} ${unit}`.trim();
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "plot" });
  svg.setAttribute("aria-label", `${title}: ${shown(last)}`);
  svg.append(
    s("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 2, y2: HEIGHT - 2, class: "axis" }),
    s("line", { x1: 0, x2: WIDTH, y1: 4, y2: 4, class: "axis faint" }),
    s("path", { d: pathOf(points, largest), class: "line" }),
  );
  return h(
    "figure",
    { class: "plot-box", "data-testid": "ops-plot" },
    h("figcaption", {}, h("span", {}, title), h("strong", {}, shown(last))),
    svg,
    h("p", { class: "plot-top", "aria-hidden": true }, known.length ? `▲ ${shown(largest)}` : "–"),
  );
}
