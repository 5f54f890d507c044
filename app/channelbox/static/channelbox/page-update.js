/* Reloads a page that is open during an upgrade, when nobody notices and nothing is lost. */

import { request } from "./request.js";

const CHECK_INTERVAL_MS = 1_000;
const MAX_SPREAD_MS = 60_000; // at random: not all pages at once
const IDLE_MS = 60_000; // without a key, a pointer or a touch, after which a visible page counts as idle
const RETRY_MS = 30_000; // after the page could not be loaded
const RELOAD_INTERVAL_MS = 300_000; // for one change: old and new processes may answer in turn during an upgrade
const RELOADED_KEY = "channelbox:reloaded";

export class PageUpdate {
  #version; #canReload; #leave; #timer = 0; #change = ""; #activeAt = performance.now(); #requestedAt = -Infinity;

  /**
   * @param options version: of this page; "": the first that the server reports. canReload(): whether a reload loses
   *   nothing. leave(): called before the reload.
   */
  constructor({ version, canReload, leave = () => {} }) {
    this.#version = version;
    this.#canReload = canReload;
    this.#leave = leave;
    for (const type of ["keydown", "pointerdown", "wheel", "touchmove"]) {
      addEventListener(type, () => (this.#activeAt = performance.now()), { passive: true });
    }
  }

  /** Note the version that the server reports, any number of times. */
  heard(version) {
    this.#version ||= version;
    const change = version && version !== this.#version ? `${this.#version} ${version}` : "";
    if (change === this.#change) return;
    this.#change = change;
    clearInterval(this.#timer);
    if (!change) return;
    const from = performance.now() + Math.random() * MAX_SPREAD_MS;
    this.#timer = setInterval(() => performance.now() > from && this.#try(change), CHECK_INTERVAL_MS);
  }

  async #try(change) {
    if (performance.now() - this.#requestedAt < RETRY_MS || !this.#mayReload(change)) return;
    // Check that the page can be loaded: an error page has no connection and would stay.
    this.#requestedAt = performance.now();
    const answer = await request(location.href, { method: "HEAD", cache: "no-store" }).catch(() => null);
    if (!answer?.ok || !this.#mayReload(change)) return;
    sessionStorage.setItem(RELOADED_KEY, JSON.stringify({ change, at: Date.now() }));
    clearInterval(this.#timer);
    this.#leave();
    location.reload();
  }

  /** Whether nobody notices, nothing is lost, and no reload for this change was made just now. */
  #mayReload(change) {
    if (!document.hidden && performance.now() - this.#activeAt < IDLE_MS) return false;
    if (!this.#canReload()) return false;
    try {
      const last = JSON.parse(sessionStorage.getItem(RELOADED_KEY));
      const ago = Date.now() - last?.at; // negative: the clock was set back since
      return last?.change !== change || ago < 0 || ago >= RELOAD_INTERVAL_MS;
    } catch {
      return false; // without storage it could reload for ever
    }
  }
}
