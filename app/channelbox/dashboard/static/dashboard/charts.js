/* Charts of the last 15 minutes, with one line for each node or for each figure. */
import uPlot from "../vendor/uplot/uPlot.esm.js";
import { element, translate } from "../channelbox/ui.js";
import { hoursMinutes } from "../channelbox/times.js";
import { number } from "./numbers.js";
import { rollingMax, rollingMean } from "./series.js";

const SPAN_SECONDS = 900; // length of the time axis
const MAX_LEGEND = 6; // entries
const AXIS_STEPS = [1, 10, 100, 1e3, 1e4, 1e5, 1e6].flatMap((ten) => [ten, 2 * ten, 5 * ten]);

/* Lines of each chart: one figure by node, or the named totals. `smooth` is applied to the lines, because single
   seconds would only be noise; the legend shows the values themselves. */
const CHARTS = {
  connections: { node: "connections" },
  messages: { node: "messages_per_s", smooth: rollingMean },
  delivered: { node: "delivered_per_s", smooth: rollingMean },
  store: { totals: { store_p50_ms: "p50_name", store_p99_ms: "p99_name" } },
  queue: { totals: { queue: "queue_name" } },
  lag: { node: "lag_ms", smooth: rollingMax },
};

/** All charts of the page. */
export class Charts {
  #charts; #now = 0;

  /**
   * @param {NodeListOf<HTMLElement>} figures Elements of the charts; `data-chart` names an entry of CHARTS.
   * @param {import("./series.js").Series} series
   */
  constructor(figures, series) {
    this.#charts = [...figures].map((figure) => new Chart(figure, series));
    document.documentElement.addEventListener("theme", () => this.#charts.forEach((chart) => chart.redraw(this.#now)));
    const observer = new ResizeObserver(() => this.#charts.forEach((chart) => chart.resize()));
    for (const figure of figures) observer.observe(figure.querySelector(".plot"));
  }

  /**
   * Draw the charts.
   * @param {number} now Server time in seconds at the right end of the time axis; advances even without new figures.
   */
  show(now) {
    this.#now = now;
    for (const chart of this.#charts) chart.show(now);
  }
}

/** One chart with its legend. */
class Chart {
  #figure; #container; #legend; #series; #spec; #plot = null; #keys = ""; #lines = []; #now = 0;

  constructor(figure, series) {
    this.#figure = figure;
    this.#container = figure.querySelector(".plot");
    this.#legend = figure.querySelector(".legend");
    this.#series = series;
    this.#spec = CHARTS[figure.dataset.chart];
  }

  show(now) {
    this.#now = now;
    this.#lines = this.#findLines();
    const keys = this.#lines.map(({ label }) => label).join("\n");
    if (!this.#plot || keys !== this.#keys) {
      this.#keys = keys;
      this.#createPlot();
    }
    this.#plot.setData(this.#data());
    if (this.#plot.cursor.idx === null || this.#plot.cursor.left < 0) this.#showValues(this.#series.at.length - 1);
  }

  /** Create the plot anew, with the colours of the current theme. */
  redraw(now) {
    this.#plot?.destroy();
    this.#plot = null;
    if (now) this.show(now);
  }

  resize() {
    this.#plot?.setSize(this.#size());
  }

  #findLines() {
    if (this.#spec.totals) {
      return Object.entries(this.#spec.totals).map(([figure, word]) => ({
        label: translate(word),
        column: this.#series.column(figure),
      }));
    }
    // A node without any value has no processes of this kind.
    return Object.keys(this.#series.nodes)
      .sort()
      .map((name) => ({ label: name, column: this.#series.column(this.#spec.node, name) }))
      .filter(({ column }) => column.some((value) => value !== null));
  }

  #data() {
    const { smooth = (column) => column } = this.#spec;
    return [this.#series.at, ...this.#lines.map(({ column }) => smooth(column))];
  }

  #size() {
    return { width: Math.max(100, this.#container.clientWidth), height: Math.max(90, this.#container.clientHeight) };
  }

  #createPlot() {
    this.#plot?.destroy();
    const style = getComputedStyle(this.#figure);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: colour("--muted"),
      font: `${Math.round(0.75 * parseFloat(style.fontSize))}px ${style.fontFamily}`,
      grid: { stroke: colour("--grid"), width: 1 },
      ticks: { show: false },
    };
    const options = {
      ...this.#size(),
      padding: [10, 12, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "dashboard" }, y: false, drag: { setScale: false }, points: { size: 6 } },
      scales: {
        x: { time: true, range: () => [this.#now - SPAN_SECONDS, this.#now] },
        y: { range: (_, min, max) => [0, Math.max(1, (max ?? 0) * 1.1)] },
      },
      axes: [
        { ...axis, size: 24, gap: 4, space: 90, values: (_, splits) => splits.map((at) => hoursMinutes(at * 1_000)) },
        { ...axis, size: 48, gap: 4, space: 28, incrs: AXIS_STEPS, values: (_, splits) => splits.map((n) => number(n)) },
      ],
      series: [
        {},
        ...this.#lines.map(({ label }, n) => ({
          label,
          stroke: colour(`--line-${n % 8}`),
          width: 1.5,
          dash: n < 8 ? undefined : [6, 3],
          spanGaps: false,
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [(plot) => this.#showValues(plot.cursor.idx ?? this.#series.at.length - 1)] },
    };
    this.#plot = new uPlot(options, this.#data(), this.#container);
    const shown = this.#lines.length > MAX_LEGEND ? MAX_LEGEND - 1 : MAX_LEGEND;
    this.#legend.replaceChildren(
      ...this.#lines.slice(0, shown).map(({ label }, n) => {
        const entry = element("li");
        const swatch = element("i");
        swatch.style.background = colour(`--line-${n % 8}`);
        entry.append(swatch, element("bdi", "", label), element("b"));
        return entry;
      }),
    );
    const more = this.#lines.length - shown;
    if (more > 0) this.#legend.append(element("li", "muted", translate("more", { n: more })));
  }

  /** Show the values of one row in the legend: the newest, or the one at the pointer. */
  #showValues(row) {
    this.#lines.forEach(({ column }, n) => {
      const value = this.#legend.children[n]?.querySelector("b");
      if (value) value.textContent = number(column[row]);
    });
  }
}
