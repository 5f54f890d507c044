/* Tiles: the main figures, each with a sparkline of the last 15 minutes. */
import { translate } from "../channelbox/ui.js";
import { now, since } from "./freshness.js";
import { number } from "./numbers.js";
import { rollingMean } from "./series.js";

const WIDTH = 300; // of the sparkline's viewBox
const HEIGHT = 40;

/* Text below each figure. It also tells which of two meanings null has: nothing happened, or the figure is unknown. */
const CAPTIONS = {
  connections: (totals) => translate("running", { nodes: number(totals.nodes), processes: number(totals.processes) }),
  rooms: () => "",
  messages_per_s: (totals) => translate("delivered", { n: number(totals.delivered_per_s) }),
  store_p50_ms: (totals) =>
    totals.store_p50_ms === null ? translate("nothing_stored") : translate("p99", { ms: number(totals.store_p99_ms) }),
  queue: (totals) => (totals.queue === null ? translate("unknown") : ""),
};
const KEEP_LAST = new Set(["queue"]); // while these are unknown, the last value stays and its age grows

/** The tiles with the totals. */
export class Tiles {
  #tiles; #updatedAt = new Map();

  /** @param {NodeListOf<HTMLElement>} tiles Elements whose `data-figure` names a total. */
  constructor(tiles) {
    this.#tiles = [...tiles];
  }

  /** Show the totals of an update. */
  show(totals) {
    for (const tile of this.#tiles) {
      const { figure } = tile.dataset;
      const value = totals[figure] ?? null;
      tile.querySelector(".below").textContent = CAPTIONS[figure](totals);
      if (value === null && KEEP_LAST.has(figure)) continue;
      this.#updatedAt.set(tile, now());
      const label = tile.querySelector("b");
      const text = number(value);
      if (label.textContent !== text) label.textContent = text;
    }
  }

  /** Return the age in seconds of each tile's own figure, by tile. */
  ages() {
    return new Map([...this.#updatedAt].map(([tile, moment]) => [tile, since(moment)]));
  }

  /** Draw the sparkline of each tile. */
  showSparklines(series) {
    for (const tile of this.#tiles) {
      const { figure } = tile.dataset;
      const column = series.column(figure);
      const { line, area } = sparkline(figure === "messages_per_s" ? rollingMean(column) : column);
      tile.querySelector(".spark-line").setAttribute("d", line);
      tile.querySelector(".spark-area").setAttribute("d", area);
    }
  }
}

/** Return the SVG path data of a column, with the newest value at the right end and gaps for nulls. */
function sparkline(column) {
  const max = Math.max(1, ...column.filter((value) => value !== null));
  const step = WIDTH / 899;
  let line = "";
  let area = "";
  let start = null;
  let x = WIDTH - (column.length - 1) * step;
  let lastX = x;
  for (const value of [...column, null]) {
    if (value === null) {
      if (start !== null) area += `L${lastX.toFixed(1)} ${HEIGHT}Z`;
      start = null;
    } else {
      const y = (HEIGHT - 2 - (value / max) * (HEIGHT - 6)).toFixed(1);
      line += `${start === null ? "M" : "L"}${x.toFixed(1)} ${y}`;
      area += start === null ? `M${x.toFixed(1)} ${HEIGHT}L${x.toFixed(1)} ${y}` : `L${x.toFixed(1)} ${y}`;
      start ??= x;
      lastX = x;
    }
    x += step;
  }
  return { line, area };
}
