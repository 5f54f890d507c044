/* Reconnecting connection: when to connect, when to ping, when to give up.

   It owns no WebSocket and no clock: call a method for each input, with `now`, the time in seconds, apply the effects
   that it returns, and call `tick` at `due`. client.js lists the effects. */

const OPENING_TIMEOUT = 10; // s from the attempt until the connection is usable
const SETTLED_SECONDS = 10; // s after which the delays start small again
const MAX_DELAY_SECONDS = 8; // before jitter: with it 12 at most, and 3 are left of the 15 that are promised
const SILENCE_SECONDS = 25; // without a frame before a ping
const ANSWER_TIMEOUT = 5; // s from a ping to any frame

export const Close = { TOO_BIG: 1009, RESTART: 1012, TRY_LATER: 1013, ROOM_FULL: 4000, SIGN_IN: 4001, NOT_ALLOWED: 4003, TOO_MUCH: 4008 };
const FINAL = [Close.SIGN_IN, Close.NOT_ALLOWED]; // a person has to act first

/**
 * Return the seconds to wait before the next attempt.
 * @param code close code; 0 or 1006: without a close frame.
 * @param attempt 0, 1, ...
 * @param random 0 to 1, for jitter.
 */
export function delay(code, attempt, random) {
  const grown = Math.min(MAX_DELAY_SECONDS, 0.5 * 2 ** Math.min(attempt, 10));
  if (code === Close.RESTART && attempt === 0) return 0.2 + random * 2.3;
  if (code === Close.TRY_LATER) return Math.min(MAX_DELAY_SECONDS, 3 * 2 ** Math.min(attempt, 10)) * (0.5 + random);
  if (code === Close.ROOM_FULL || code === Close.TOO_MUCH) return 10 + random * 10;
  return grown * (0.5 + random);
}

/** Return the effect that reports a change of state. */
export const state = (name, { code = 0, reason = "", until = null } = {}) => ({ do: "state", name, code, reason, until });

/** A connection that is made again when it ends. States: idle, connecting, open, waiting, stopped. */
export class Connection {
  #query; #silence; #random; #attempt = 0;
  #startedAt = 0; #readyAt = null; #heardAt = 0; #pingedAt = null;

  state = "idle";
  until = null; // time of the next attempt, while waiting

  /**
   * @param {{query?: () => string, silence?: number, random?: () => number}} options query(): called at each attempt;
   *   silence: seconds without a frame before the server is pinged.
   */
  constructor({ query = () => "", silence = SILENCE_SECONDS, random = Math.random } = {}) {
    this.#query = query;
    this.#silence = silence;
    this.#random = random;
  }

  /** Whether a connection is open or opening; frames are ignored otherwise. */
  get live() {
    return this.state === "connecting" || this.state === "open";
  }

  /** Time in seconds at which to call `tick`, or null. */
  get due() {
    if (this.state === "waiting") return this.until;
    if (!this.live) return null;
    if (this.#readyAt === null) return this.#startedAt + OPENING_TIMEOUT;
    return this.#pingedAt === null ? this.#heardAt + this.#silence : this.#pingedAt + this.#answerTimeout;
  }

  /** Connect immediately, replacing any connection or scheduled attempt. */
  connect(now) {
    this.state = "connecting";
    this.until = this.#readyAt = this.#pingedAt = null;
    this.#startedAt = this.#heardAt = now;
    return [{ do: "connect", query: this.#query() }, state("connecting")];
  }

  /**
   * Note that a frame was received.
   * @param ready whether the connection is usable, as a room's is after its welcome.
   */
  heard(now, ready = true) {
    if (!this.live) return;
    this.#heardAt = now;
    this.#pingedAt = null;
    if (ready && this.#readyAt === null) {
      this.#readyAt = now;
      this.state = "open";
    }
  }

  /** Process a frame, parsed from JSON, of a connection without a room: pass it on. */
  frame(frame, now) {
    if (!this.live) return [];
    this.heard(now);
    return [{ do: "other", frame }];
  }

  /** Process the end of the connection: stop after 4001 and 4003, else schedule the next attempt. */
  closed(code, reason, now) {
    if (!this.live) return [];
    if (FINAL.includes(code)) {
      this.state = "stopped";
      return [state("stopped", { code, reason })];
    }
    if (this.#readyAt !== null && now - this.#readyAt > SETTLED_SECONDS) this.#attempt = 0;
    this.until = now + delay(code, this.#attempt, this.#random());
    this.#attempt += 1;
    this.state = "waiting";
    return [state("waiting", { code, reason, until: this.until })];
  }

  /** Drop a connection that no longer works, and schedule the next attempt. */
  giveUp(now) {
    return this.live ? [{ do: "drop" }, ...this.closed(0, "", now)] : [];
  }

  /** Close the connection and stay idle until `connect`; delays then start small again. */
  leave() {
    if (this.state === "idle") return [];
    this.state = "idle";
    this.#attempt = 0;
    return [{ do: "drop" }, state("idle")];
  }

  /** Do what is due. */
  tick(now) {
    const { due } = this;
    if (due === null || now < due) return [];
    if (this.state === "waiting") return this.connect(now);
    if (this.#readyAt === null || this.#pingedAt !== null) return this.giveUp(now);
    return this.#ping(now);
  }

  /** React to the return of the network or the person: connect immediately, or check the connection. */
  wake(now) {
    return this.state === "waiting" || this.state === "stopped" ? this.connect(now) : this.probe(now);
  }

  /** Ping the server, because the network may have changed without closing the connection. */
  probe(now) {
    return this.state === "open" && this.#pingedAt === null ? this.#ping(now) : [];
  }

  get #answerTimeout() {
    return Math.min(this.#silence, ANSWER_TIMEOUT);
  }

  #ping(now) {
    this.#pingedAt = now;
    return [{ do: "send", frame: { type: "ping" } }];
  }
}
