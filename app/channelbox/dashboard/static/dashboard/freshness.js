/* Age of the figures that are shown. Measured with this computer's clocks, because the server's may differ. */
import { hoursMinutesSeconds } from "../channelbox/times.js";
import { translate } from "../channelbox/ui.js";
import { duration } from "./numbers.js";

export const STALE_SECONDS = 5; // age above which figures are shown as stale
export const DEAD_SECONDS = 30; // age above which a notice warns that the page is not live

/** Tracks and shows the age of the figures. */
export class Freshness {
  #timestamp = ""; #receivedAt = null; #loadedAt = now(); #notice;

  /** @param {HTMLElement} notice Element that warns when no figures have been received for long. */
  constructor(notice) {
    this.#notice = notice;
  }

  /**
   * Note that figures were received.
   * @param {string} at Server time of the figures. The same time as before means the same figures, which go on ageing.
   */
  received(at) {
    if (at === this.#timestamp) return;
    this.#timestamp = at;
    this.#receivedAt = now();
  }

  /** Seconds since the newest figures were received or, if there are none yet, since the page was loaded. */
  get age() {
    return since(this.#receivedAt ?? this.#loadedAt);
  }

  /**
   * Show the age on the page and on each tile.
   * @param {Iterable<HTMLElement>} tiles
   * @param {Map<HTMLElement, number>} [ages] Age in seconds of tiles whose own figures are older.
   */
  show(tiles, ages = new Map()) {
    const age = this.age;
    document.body.dataset.age = grade(age);
    for (const tile of tiles) {
      const own = Math.max(age, ages.get(tile) ?? 0);
      const word = own > STALE_SECONDS ? "stale" : "age";
      const text = this.#receivedAt === null ? "" : translate(word, { t: duration(own) });
      const label = tile.querySelector(".age");
      if (label.textContent !== text) label.textContent = text;
      tile.dataset.age = grade(own);
    }
    const dead = age > DEAD_SECONDS;
    this.#notice.hidden = !dead;
    if (!dead) return;
    const at = this.#receivedAt && hoursMinutesSeconds(new Date(this.#receivedAt.date));
    const sentence = at ? translate("dead", { at }) : translate("never");
    const label = this.#notice.querySelector("p");
    if (label.textContent !== sentence) label.textContent = sentence;
  }
}

/**
 * Return the current moment, for `since`. It is taken from two clocks, because one stops while the computer sleeps and
 * the other can be set.
 */
export function now() {
  return { ticks: performance.now(), date: Date.now() };
}

/** Return the seconds that have passed since a moment, by the clock that shows more. */
export function since({ ticks, date }) {
  return Math.max(performance.now() - ticks, Date.now() - date, 0) / 1_000;
}

function grade(age) {
  return age > DEAD_SECONDS ? "dead" : age > STALE_SECONDS ? "stale" : "fresh";
}
