/* When to connect, when to ask for a sign of life, when to give up: a connection that comes back by itself.

   It owns no socket and no clock: call it with what happens and the time in seconds, apply the effects that it returns,
   and call `tick` at `due`. Effects are objects whose `do` says what to do; client.js lists them. */

const OPENING_TIMEOUT = 10; // s from the attempt until the connection is of use
const SETTLED_SECONDS = 10; // s after which the delays start small again
const MAX_DELAY_SECONDS = 8; // before it is spread: after that 12 at most, and 3 are left of the 15 that are promised
const SILENCE_SECONDS = 25;
const ANSWER_TIMEOUT = 5; // s from a ping to any frame

export const Close = { TOO_BIG: 1009, RESTART: 1012, TRY_LATER: 1013, ROOM_FULL: 4000, SIGN_IN: 4001, NOT_ALLOWED: 4003, TOO_MUCH: 4008 };
const FINAL = [Close.SIGN_IN, Close.NOT_ALLOWED]; // a person has to do something first

/** The seconds to wait before attempt 0, 1, ... after this close code. random: 0 to 1, spreads them. */
export function delay(code, attempt, random) {
  const grown = Math.min(MAX_DELAY_SECONDS, 0.5 * 2 ** Math.min(attempt, 10));
  if (code === Close.RESTART && attempt === 0) return 0.2 + random * 2.3;
  if (code === Close.TRY_LATER) return Math.min(MAX_DELAY_SECONDS, 3 * 2 ** Math.min(attempt, 10)) * (0.5 + random);
  if (code === Close.ROOM_FULL || code === Close.TOO_MUCH) return 10 + random * 10;
  return grown * (0.5 + random);
}

/** The effect of a change of state. */
export const state = (name, { code = 0, reason = "", until = null } = {}) => ({ do: "state", name, code, reason, until });

/** States: idle, connecting, open, waiting, stopped. */
export class Connection {
  #query; #silence; #random; #attempt = 0; #opened = 0; #first = null; #last = 0; #asked = null;

  state = "idle";
  until = null; // the next attempt, while waiting

  /** query(): asked at each attempt; silence: seconds without a frame after which the server is pinged. */
  constructor({ query = () => "", silence = SILENCE_SECONDS, random = Math.random } = {}) {
    this.#query = query;
    this.#silence = silence;
    this.#random = random;
  }

  /** Whether there is a connection, open or opening, whose frames count. */
  get live() {
    return this.state === "connecting" || this.state === "open";
  }

  /** When to call `tick`; null: nothing is to come. */
  get due() {
    if (this.state === "waiting") return this.until;
    if (!this.live) return null;
    if (this.#first === null) return this.#opened + OPENING_TIMEOUT;
    return this.#asked === null ? this.#last + this.#silence : this.#asked + this.#patience;
  }

  /** Connects at once, whatever is there or was waited for. */
  connect(now) {
    this.state = "connecting";
    this.until = this.#first = this.#asked = null;
    this.#opened = this.#last = now;
    return [{ do: "connect", query: this.#query() }, state("connecting")];
  }

  /** A frame came. ready: whether the connection is of use, as a room's is after its welcome. */
  heard(now, ready = true) {
    if (!this.live) return;
    this.#last = now;
    this.#asked = null;
    if (ready && this.#first === null) {
      this.#first = now;
      this.state = "open";
    }
  }

  /** Takes what came, parsed from JSON: all that a connection without a room does with it. */
  frame(frame, now) {
    if (!this.live) return [];
    this.heard(now);
    return [{ do: "other", frame }];
  }

  /** The connection has ended; code 0 or 1006: without a close frame. */
  closed(code, reason, now) {
    if (!this.live) return [];
    if (FINAL.includes(code)) {
      this.state = "stopped";
      return [state("stopped", { code, reason })];
    }
    if (this.#first !== null && now - this.#first > SETTLED_SECONDS) this.#attempt = 0;
    this.until = now + delay(code, this.#attempt, this.#random());
    this.#attempt += 1;
    this.state = "waiting";
    return [state("waiting", { code, reason, until: this.until })];
  }

  /** Ends a connection that leads nowhere. */
  giveUp(now) {
    return this.live ? [{ do: "drop" }, ...this.closed(0, "", now)] : [];
  }

  /** Ends the connection, until `connect`, and begins with small delays then. */
  leave() {
    if (this.state === "idle") return [];
    this.state = "idle";
    this.#attempt = 0;
    return [{ do: "drop" }, state("idle")];
  }

  /** Does what is due. */
  tick(now) {
    const { due } = this;
    if (due === null || now < due) return [];
    if (this.state === "waiting") return this.connect(now);
    if (this.#first === null || this.#asked !== null) return this.giveUp(now);
    return this.#ask(now);
  }

  /** The network or the person has returned: connects at once, or sees whether the connection still works. */
  wake(now) {
    return this.state === "waiting" || this.state === "stopped" ? this.connect(now) : this.probe(now);
  }

  /** Asks for a sign of life: the network may have changed beneath the connection. */
  probe(now) {
    return this.state === "open" && this.#asked === null ? this.#ask(now) : [];
  }

  get #patience() {
    return Math.min(this.#silence, ANSWER_TIMEOUT);
  }

  #ask(now) {
    this.#asked = now;
    return [{ do: "send", frame: { type: "ping" } }];
  }
}
