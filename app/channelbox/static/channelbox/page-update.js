/* A page that is open across an upgrade reloads itself, at a moment when nobody notices and nothing is lost. */

import { request } from "./request.js";

const LOOK_EVERY = 1_000; // ms
const SPREAD = 60_000; // ms: not all pages at once
const IDLE = 60_000; // ms without a key, a pointer or a touch that count as quiet while the page is in sight
const ASK_AGAIN = 30_000; // ms after the page could not be had
const AGAIN = 300_000; // ms: while old and new processes answer in turn, a reload may bring the other one
const RELOADED = "channelbox:reloaded";

export class PageUpdate {
  #version; #quiet; #leave; #timer = 0; #change = ""; #active = performance.now(); #asked = -Infinity;

  /**
   * version: of this page; "" takes the first that the server names. quiet(): whether a reload loses nothing. leave():
   * called before the reload.
   */
  constructor({ version, quiet, leave = () => {} }) {
    this.#version = version;
    this.#quiet = quiet;
    this.#leave = leave;
    for (const sign of ["keydown", "pointerdown", "wheel", "touchmove"]) {
      addEventListener(sign, () => (this.#active = performance.now()), { passive: true });
    }
  }

  /** The server's version, as often as it is told. */
  heard(version) {
    this.#version ||= version;
    const change = version && version !== this.#version ? `${this.#version} ${version}` : "";
    if (change === this.#change) return;
    this.#change = change;
    clearInterval(this.#timer);
    if (!change) return;
    const from = performance.now() + Math.random() * SPREAD;
    this.#timer = setInterval(() => performance.now() > from && this.#try(change), LOOK_EVERY);
  }

  async #try(change) {
    if (performance.now() - this.#asked < ASK_AGAIN || !this.#may(change)) return;
    // A page of an error would stay: it has no socket, and nothing in it asks again.
    this.#asked = performance.now();
    const answer = await request(location.href, { method: "HEAD", cache: "no-store" }).catch(() => null);
    if (!answer?.ok || !this.#may(change)) return;
    sessionStorage.setItem(RELOADED, JSON.stringify({ change, at: Date.now() }));
    clearInterval(this.#timer);
    this.#leave();
    location.reload();
  }

  /** Whether nobody notices, nothing is lost, and it was not done for this change just now. */
  #may(change) {
    if (!document.hidden && performance.now() - this.#active < IDLE) return false;
    if (!this.#quiet()) return false;
    try {
      const last = JSON.parse(sessionStorage.getItem(RELOADED));
      const ago = Date.now() - last?.at; // negative: the clock was set back since
      return last?.change !== change || ago < 0 || ago >= AGAIN;
    } catch {
      return false; // without a memory it could go on for ever
    }
  }
}
