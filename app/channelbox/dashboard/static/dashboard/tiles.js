/* The big figures, each with a sparkline of the last 15 minutes. */
import { say } from "../channelbox/words.js";
import { now, since } from "./freshness.js";
import { number } from "./numbers.js";
import { mean } from "./series.js";

const WIDTH = 300;
const HEIGHT = 40;

/* What stands below each figure, and which of the two meanings null has: nothing happened, or nobody knows. */
const BELOW = {
  connections: (totals) => say("running", { nodes: number(totals.nodes), processes: number(totals.processes) }),
  rooms: () => "",
  messages_per_s: (totals) => say("delivered", { n: number(totals.delivered_per_s) }),
  store_p50_ms: (totals) =>
    totals.store_p50_ms === null ? say("nothing_stored") : say("p99", { ms: number(totals.store_p99_ms) }),
  queue: (totals) => (totals.queue === null ? say("unknown") : ""),
};
const KEPT = new Set(["queue"]); // not known: the last value stays, and ages

export class Tiles {
  #tiles; #known = new Map();

  constructor(tiles) {
    this.#tiles = [...tiles];
  }

  show(totals) {
    for (const tile of this.#tiles) {
      const { figure } = tile.dataset;
      const value = totals[figure] ?? null;
      tile.querySelector(".below").textContent = BELOW[figure](totals);
      if (value === null && KEPT.has(figure)) continue;
      this.#known.set(tile, now());
      const place = tile.querySelector("b");
      const words = number(value);
      if (place.textContent !== words) place.textContent = words;
    }
  }

  /** How old the figure of each tile is by itself, in seconds. */
  ages() {
    return new Map([...this.#known].map(([tile, moment]) => [tile, since(moment)]));
  }

  sparks(series) {
    for (const tile of this.#tiles) {
      const { figure } = tile.dataset;
      const column = series.column(figure);
      const { line, area } = spark(figure === "messages_per_s" ? mean(column) : column);
      tile.querySelector(".spark-line").setAttribute("d", line);
      tile.querySelector(".spark-area").setAttribute("d", area);
    }
  }
}

/** Path data for a column, newest at the right end; broken where nothing is known. */
function spark(column) {
  const most = Math.max(1, ...column.filter((value) => value !== null));
  const step = WIDTH / 899;
  let line = "";
  let area = "";
  let begun = null;
  let x = WIDTH - (column.length - 1) * step;
  let before = x;
  for (const value of [...column, null]) {
    if (value === null) {
      if (begun !== null) area += `L${before.toFixed(1)} ${HEIGHT}Z`;
      begun = null;
    } else {
      const y = (HEIGHT - 2 - (value / most) * (HEIGHT - 6)).toFixed(1);
      line += `${begun === null ? "M" : "L"}${x.toFixed(1)} ${y}`;
      area += begun === null ? `M${x.toFixed(1)} ${HEIGHT}L${x.toFixed(1)} ${y}` : `L${x.toFixed(1)} ${y}`;
      begun ??= x;
      before = x;
    }
    x += step;
  }
  return { line, area };
}
