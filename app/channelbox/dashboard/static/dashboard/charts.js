/* The charts of the last 15 minutes: a line for each node, or for each figure. */
import uPlot from "../vendor/uplot/uPlot.esm.js";
import { element, say } from "../channelbox/words.js";
import { hoursMinutes } from "../channelbox/times.js";
import { number } from "./numbers.js";
import { mean, worst } from "./series.js";

const SPAN = 900; // s
const IN_LEGEND = 6;
const STEPS = [1, 10, 100, 1e3, 1e4, 1e5, 1e6].flatMap((ten) => [ten, 2 * ten, 5 * ten]);

/* By node, or one line for each of the totals named. `drawn`: single seconds would only be noise; said is the newest. */
const CHARTS = {
  connections: { node: "connections" },
  messages: { node: "messages_per_s", drawn: mean },
  delivered: { node: "delivered_per_s", drawn: mean },
  store: { totals: { store_p50_ms: "p50_name", store_p99_ms: "p99_name" } },
  queue: { totals: { queue: "queue_name" } },
  lag: { node: "lag_ms", drawn: worst },
};

export class Charts {
  #charts; #series; #now = 0;

  constructor(figures, series) {
    this.#series = series;
    this.#charts = [...figures].map((figure) => new Chart(figure, series));
    document.documentElement.addEventListener("theme", () => this.#charts.forEach((chart) => chart.again(this.#now)));
    const watch = new ResizeObserver(() => this.#charts.forEach((chart) => chart.fit()));
    for (const figure of figures) watch.observe(figure.querySelector(".plot"));
  }

  /** now: the server's time in seconds, which goes on while no figures come. */
  show(now) {
    this.#now = now;
    for (const chart of this.#charts) chart.show(now);
  }
}

class Chart {
  #figure; #place; #legend; #series; #what; #plot = null; #keys = ""; #lines = []; #now = 0;

  constructor(figure, series) {
    this.#figure = figure;
    this.#place = figure.querySelector(".plot");
    this.#legend = figure.querySelector(".legend");
    this.#series = series;
    this.#what = CHARTS[figure.dataset.chart];
  }

  show(now) {
    this.#now = now;
    this.#lines = this.#wanted();
    const keys = this.#lines.map(({ label }) => label).join("\n");
    if (!this.#plot || keys !== this.#keys) {
      this.#keys = keys;
      this.#make();
    }
    this.#plot.setData(this.#data());
    if (this.#plot.cursor.idx === null || this.#plot.cursor.left < 0) this.#tell(this.#series.at.length - 1);
  }

  again(now) {
    this.#plot?.destroy();
    this.#plot = null;
    if (now) this.show(now);
  }

  fit() {
    this.#plot?.setSize(this.#size());
  }

  #wanted() {
    if (this.#what.totals) {
      return Object.entries(this.#what.totals).map(([figure, word]) => ({
        label: say(word),
        column: this.#series.column(figure),
      }));
    }
    // A node without any value has none of this kind of process.
    return Object.keys(this.#series.nodes)
      .sort()
      .map((name) => ({ label: name, column: this.#series.column(this.#what.node, name) }))
      .filter(({ column }) => column.some((value) => value !== null));
  }

  #data() {
    const { drawn = (column) => column } = this.#what;
    return [this.#series.at, ...this.#lines.map(({ column }) => drawn(column))];
  }

  #size() {
    return { width: Math.max(100, this.#place.clientWidth), height: Math.max(90, this.#place.clientHeight) };
  }

  #make() {
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
        x: { time: true, range: () => [this.#now - SPAN, this.#now] },
        y: { range: (_, least, most) => [0, Math.max(1, (most ?? 0) * 1.1)] },
      },
      axes: [
        { ...axis, size: 24, gap: 4, space: 90, values: (_, splits) => splits.map((at) => hoursMinutes(at * 1_000)) },
        { ...axis, size: 48, gap: 4, space: 28, incrs: STEPS, values: (_, splits) => splits.map((value) => number(value)) },
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
      hooks: { setCursor: [(plot) => this.#tell(plot.cursor.idx ?? this.#series.at.length - 1)] },
    };
    this.#plot = new uPlot(options, this.#data(), this.#place);
    const most = this.#lines.length > IN_LEGEND ? IN_LEGEND - 1 : IN_LEGEND;
    this.#legend.replaceChildren(
      ...this.#lines.slice(0, most).map(({ label }, n) => {
        const entry = element("li");
        const swatch = element("i");
        swatch.style.background = colour(`--line-${n % 8}`);
        entry.append(swatch, element("bdi", "", label), element("b"));
        return entry;
      }),
    );
    const more = this.#lines.length - most;
    if (more > 0) this.#legend.append(element("li", "muted", say("more", { n: more })));
  }

  /** The values of one row in the legend: the newest, or where the pointer is. */
  #tell(row) {
    this.#lines.forEach(({ column }, n) => {
      const place = this.#legend.children[n]?.querySelector("b");
      if (place) place.textContent = number(column[row]);
    });
  }
}
