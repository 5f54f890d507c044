/* How old is what is shown. Told by this machine's own clocks: the server's may differ. */
import { hoursMinutesSeconds } from "../channelbox/times.js";
import { say } from "../channelbox/words.js";
import { span } from "./numbers.js";

export const STALE = 5; // s
export const DEAD = 30; // s

export class Freshness {
  #stamp = ""; #heard = null; #started = now(); #notice;

  /** notice: the element that says in words that nothing has come for long. */
  constructor(notice) {
    this.#notice = notice;
  }

  /** Figures came, made at this time of the server's. The same time again is the same figures: they go on ageing. */
  heard(at) {
    if (at === this.#stamp) return;
    this.#stamp = at;
    this.#heard = now();
  }

  /** Seconds since the newest figures came; since the page was loaded where none did. */
  get age() {
    return since(this.#heard ?? this.#started);
  }

  /** Shows it: on the page as a whole, and on each tile. Tiles with older data of their own have it in `ages`. */
  show(tiles, ages = new Map()) {
    const age = this.age;
    document.body.dataset.age = grade(age);
    for (const tile of tiles) {
      const own = Math.max(age, ages.get(tile) ?? 0);
      const words = this.#heard === null ? "" : say(own > STALE ? "stale" : "age", { t: span(own) });
      const label = tile.querySelector(".age");
      if (label.textContent !== words) label.textContent = words;
      tile.dataset.age = grade(own);
    }
    const dead = age > DEAD;
    this.#notice.hidden = !dead;
    if (!dead) return;
    const at = this.#heard && hoursMinutesSeconds(new Date(this.#heard.date));
    const sentence = at ? say("dead", { at }) : say("never");
    const place = this.#notice.querySelector("p");
    if (place.textContent !== sentence) place.textContent = sentence;
  }
}

/** A moment. Two clocks: one stands still while the machine sleeps, the other is set by people. */
export function now() {
  return { ticks: performance.now(), date: Date.now() };
}

/** Seconds since a moment. */
export function since({ ticks, date }) {
  return Math.max(performance.now() - ticks, Date.now() - date, 0) / 1_000;
}

function grade(age) {
  return age > DEAD ? "dead" : age > STALE ? "stale" : "fresh";
}
