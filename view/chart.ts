/** A bar for each day. */
import { h, svg } from "./dom";
import { shortDay } from "./format";

export interface Bar {
  day: string;
  value: number;
  label: string;
}

const WIDTH = 600;
const HEIGHT = 140;

/** The chart, and the same as a table for those who do not see it. */
export function barChart(
  kind: "cost" | "tokens",
  title: string,
  bars: Bar[],
  labelOf: (value: number) => string,
): Element {
  const top = roundUp(Math.max(...bars.map(({ value }) => value), 0));
  const step = WIDTH / Math.max(bars.length, 1);
  const drawn = bars.map(({ value, day, label }, index) => {
    const height = top > 0 ? Math.max((value / top) * HEIGHT, value > 0 ? 1 : 0) : 0;
    const place = { x: index * step + step * 0.12, y: HEIGHT - height, width: step * 0.76, height };
    return svg(
      "g",
      {},
      svg("rect", { class: "hover", x: index * step, y: 0, width: step, height: HEIGHT }),
      svg("rect", { class: `bar ${kind}`, ...place }),
      svg("title", {}, `${shortDay(day)}: ${label}`),
    );
  });
  const lines = [0, 0.5, 1].map((share) =>
    svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: share * HEIGHT, y2: share * HEIGHT }),
  );
  const chart = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" },
    ...lines,
    ...drawn,
  );
  const scale = (top > 0 ? [top, top / 2, 0] : [0]).map((value) => h("span", {}, labelOf(value)));
  const days = [0, Math.floor((bars.length - 1) / 2), bars.length - 1].map((index) =>
    h("span", {}, shortDay(bars[index]?.day ?? "")),
  );
  const rows = bars.map(({ day, label }) =>
    h("tr", {}, h("th", { scope: "row" }, day), h("td", {}, label)),
  );
  return h(
    "figure",
    {},
    h("figcaption", {}, title),
    h(
      "div",
      { class: "chart", "aria-hidden": true },
      h("div", { class: "scale" }, ...scale),
      chart,
      h("div", { class: "days" }, ...(bars.length < 3 ? days.slice(2) : days)),
    ),
    // A table ignores the height that hides it, and would make the page as long as all tables
    // together.
    h("div", { class: "unseen" }, h("table", {}, h("caption", {}, title), h("tbody", {}, ...rows))),
  );
}

/** The next number whose half is easy to read. */
function roundUp(value: number): number {
  if (value <= 0) return 0;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 1.5, 2, 3, 4, 6, 8].find((step) => step * power >= value) ?? 10) * power;
}
