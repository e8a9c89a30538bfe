/** A bar for each day. */
import { h, svg } from "./dom";

export interface Bar {
  day: string;
  value: number;
  label: string;
}

const WIDTH = 600;
const HEIGHT = 120;

/** The chart, and the same as a table for those who do not see it. */
export function barChart(title: string, bars: Bar[]): Element {
  const highest = Math.max(...bars.map(({ value }) => value), 0);
  const step = WIDTH / Math.max(bars.length, 1);
  const drawn = bars.map(({ value, day, label }, index) => {
    const height = highest > 0 ? (value / highest) * (HEIGHT - 4) : 0;
    const place = { x: index * step + step * 0.1, y: HEIGHT - height, width: step * 0.8 };
    return svg(
      "g",
      {},
      svg("rect", { class: "hover", x: index * step, y: 0, width: step, height: HEIGHT }),
      svg("rect", { class: "bar", ...place, height: Math.max(height, value > 0 ? 1 : 0) }),
      svg("title", {}, `${day}: ${label}`),
    );
  });
  const axis = svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT });
  const chart = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT + 1}`, "aria-hidden": true, preserveAspectRatio: "none" },
    ...drawn,
    axis,
  );
  const rows = bars.map(({ day, label }) =>
    h("tr", {}, h("th", { scope: "row" }, day), h("td", {}, label)),
  );
  // A table ignores the height that hides it, so that the page would be as long as all tables.
  const table = h(
    "div",
    { class: "unseen" },
    h("table", {}, h("caption", {}, title), h("tbody", {}, ...rows)),
  );
  const ends = h(
    "p",
    { class: "ends", "aria-hidden": true },
    h("span", {}, bars.at(0)?.day ?? ""),
    h("span", {}, bars.at(-1)?.day ?? ""),
  );
  return h("figure", {}, h("figcaption", {}, title), chart, ends, table);
}
