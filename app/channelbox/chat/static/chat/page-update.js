/* A page that is open across an upgrade reloads itself, at a moment when nobody notices and nothing is lost. */

const LOOK_EVERY = 1_000; // ms
const SPREAD = 60_000; // ms: not all pages at once
const IDLE = 60_000; // ms without a key, a pointer or a touch that count as quiet while the page is in sight
const ASK_AGAIN = 30_000; // ms after the page could not be had
const AGAIN = 300_000; // ms: while old and new processes answer in turn, a reload may bring the other one
const RELOADED = "channelbox:reloaded";

export class PageUpdate {
  #version; #quiet; #leave; #timer = 0; #active = Date.now(); #asked = 0;

  /**
   * version: of this page; "" takes the first that the server names. quiet(): whether a reload loses nothing. leave():
   * called before the reload.
   */
  constructor({ version, quiet, leave }) {
    this.#version = version;
    this.#quiet = quiet;
    this.#leave = leave;
    for (const sign of ["keydown", "pointerdown", "wheel", "touchmove"]) {
      addEventListener(sign, () => (this.#active = Date.now()), { passive: true });
    }
  }

  /** The server's version, with each welcome. */
  heard(version) {
    this.#version ||= version;
    clearInterval(this.#timer);
    if (!version || version === this.#version) return;
    const change = `${this.#version} ${version}`;
    const from = Date.now() + Math.random() * SPREAD;
    this.#timer = setInterval(() => Date.now() > from && this.#try(change), LOOK_EVERY);
  }

  async #try(change) {
    if (Date.now() - this.#asked < ASK_AGAIN || !this.#may(change)) return;
    // A page of an error would stay: it has no socket, and nothing in it asks again.
    this.#asked = Date.now();
    const answer = await fetch(location.href, { method: "HEAD", cache: "no-store" }).catch(() => null);
    if (!answer?.ok || !this.#may(change)) return;
    sessionStorage.setItem(RELOADED, JSON.stringify({ change, at: Date.now() }));
    clearInterval(this.#timer);
    this.#leave();
    location.reload();
  }

  /** Whether nobody notices, nothing is lost, and it was not done for this change just now. */
  #may(change) {
    if (!document.hidden && Date.now() - this.#active < IDLE) return false;
    if (!this.#quiet()) return false;
    try {
      const last = JSON.parse(sessionStorage.getItem(RELOADED));
      return last?.change !== change || Date.now() - last.at >= AGAIN;
    } catch {
      return false; // without a memory it could go on for ever
    }
  }
}
