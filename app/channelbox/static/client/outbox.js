/* What was said and is not stored yet: sent in order, at a pace below the server's limits, again after a reconnect.

   A message is sent again only when it was refused with the advice to do so, or on a new connection: never twice on one.

   An item is {id, kind, text, seq, epoch, state, since, until, code, error}, and whatever else it was added with. kind:
   "message", "announcement", or "delete", which removes event `seq` of the room's `epoch`. state: waiting, sent (an answer
   is to come) or failed (not stored: `code` and `error` say why). until: the time before which it is not sent again. */
import { Close } from "./connection.js";

const MAX_ON_THE_WIRE = 20;
const SHARE = 0.5; // of the limits: other connections of the person count too, and a stall makes messages arrive at once
const TEMPORARY = ["too_fast", "queue_full", "try_later"];
const RETRY_SECONDS = 2; // where the error names no time
const DEFAULT_RATE = 10;
const DEFAULT_BURST = 20; // where the welcome has no limits
const CHANGED = { do: "outbox_changed" };

/** The items, oldest first. */
export class Outbox {
  #share; #random; #rate = DEFAULT_RATE; #burst = DEFAULT_BURST; #tokens = null; #filled = 0; #until = 0; #draining = false;

  items = [];
  ready = false; // joined: what waits may go out
  due = null; // when to call `pump`

  /** share: the part of the server's limits that this client takes. */
  constructor({ share = SHARE, random = Math.random } = {}) {
    this.#share = share;
    this.#random = random;
  }

  has(id) {
    return this.items.some((item) => item.id === id);
  }

  /** Those that are neither stored nor refused. */
  get unanswered() {
    return this.items.filter(({ state }) => state !== "failed");
  }

  /** Keeps what was said and sends it in its turn. */
  add(item, now) {
    this.items.push({ text: "", seq: null, epoch: null, ...item, ...waiting(now) });
    return [CHANGED, ...this.pump(now)];
  }

  /** Takes up what an earlier load of the page or another tab left behind, each id once, everything in this order. */
  restore(items, order, now) {
    for (const item of items) {
      if (this.has(item.id)) continue;
      this.items.push(item.state === "failed" ? item : { ...item, ...waiting(now) });
    }
    this.items.sort((a, b) => order(a) - order(b));
    return [CHANGED, ...this.pump(now)];
  }

  /** Sends again what failed. */
  retry(id, now) {
    for (const item of this.items) if (item.id === id && item.state === "failed") Object.assign(item, waiting(now));
    return [CHANGED, ...this.pump(now)];
  }

  /** Takes an item out, whatever its state; null: there is no such item. */
  take(id) {
    const index = this.items.findIndex((item) => item.id === id);
    return index < 0 ? null : this.items.splice(index, 1)[0];
  }

  /** The client has joined. A deletion meant for another epoch of the room would remove something else. */
  resume(limits, epoch, now) {
    this.#rate = Math.max(1, positive(limits.rate, DEFAULT_RATE / this.#share) * this.#share);
    this.#burst = Math.max(1, positive(limits.burst, DEFAULT_BURST / this.#share) * this.#share);
    this.ready = true;
    const effects = [];
    for (const item of this.unanswered) {
      if (item.kind === "delete" && item.epoch && epoch && item.epoch !== epoch) {
        effects.push(fail(item, "no_message", "The room was re-created."));
      }
    }
    return [...effects, ...(effects.length ? [CHANGED] : []), ...this.pump(now)];
  }

  /** The connection has ended: what had no answer is unknown, and is sent again with its own id. */
  suspend(code, now) {
    this.ready = this.#draining = false;
    this.due = null;
    const sent = this.items.filter(({ state }) => state === "sent");
    const effects = [];
    if (!sent.length) return effects;
    if (code === Close.TOO_BIG) {
      const largest = sent.reduce((a, b) => (wireBytes(b) > wireBytes(a) ? b : a));
      sent.splice(sent.indexOf(largest), 1);
      effects.push(fail(largest, "too_big", ""));
    }
    for (const item of sent) Object.assign(item, waiting(now));
    return [...effects, CHANGED];
  }

  /** The item with this id is stored. */
  stored(id, now) {
    return this.take(id) ? [CHANGED, ...this.pump(now)] : [];
  }

  /** An error frame, of a message or of the connection. */
  refused(frame, now) {
    const item = this.unanswered.find(({ id }) => id === frame.id);
    const code = String(frame.code ?? "");
    const error = String(frame.error ?? "");
    const effects = [];
    if (TEMPORARY.includes(code) || "retry_after" in frame) {
      const seconds = positive(frame.retry_after, RETRY_SECONDS);
      this.#until = Math.max(this.#until, now + seconds * (1 + 0.2 * this.#random()));
      if (item) {
        Object.assign(item, { state: "waiting", until: this.#until });
        this.#draining = true;
      }
    } else if (!item) {
      return [];
    } else if (code === "removed" && item.kind === "delete") {
      this.take(item.id); // by somebody else: as wanted
      effects.push({ do: "refused", id: item.id, code, error });
    } else {
      effects.push(fail(item, code, error));
    }
    return [...effects, CHANGED, ...this.pump(now)];
  }

  /** Sends what may go out now. */
  pump(now) {
    this.due = null;
    let onTheWire = this.items.filter(({ state }) => state === "sent").length;
    // Something was refused: first those behind it get their answers.
    if (!this.ready || (this.#draining && onTheWire)) return [];
    const effects = [];
    for (const item of this.items) {
      if (item.state !== "waiting") continue;
      if (now < this.#until) {
        this.due = this.#until;
        break;
      }
      this.#draining = false;
      if (onTheWire >= MAX_ON_THE_WIRE || !this.#token(now)) break;
      Object.assign(item, { state: "sent", since: now, until: null });
      onTheWire += 1;
      effects.push({ do: "send", frame: frame(item) });
    }
    return effects.length ? [...effects, CHANGED] : [];
  }

  #token(now) {
    const grown = Math.max(0, now - this.#filled) * this.#rate;
    this.#tokens = this.#tokens === null ? this.#burst : Math.min(this.#burst, this.#tokens + grown);
    this.#filled = now;
    if (this.#tokens < 1 - 1e-9) {
      this.due = now + (1 - this.#tokens) / this.#rate;
      return false;
    }
    this.#tokens -= 1;
    return true;
  }
}

const waiting = (now) => ({ state: "waiting", since: now, until: null, code: "", error: "" });

function fail(item, code, error) {
  Object.assign(item, { state: "failed", until: null, code, error });
  return { do: "refused", id: item.id, code, error };
}

function frame({ id, kind, text, seq }) {
  return kind === "delete" ? { type: "delete", seq, id } : { type: kind, message: text, id };
}

const positive = (value, otherwise) => (typeof value === "number" && value > 0 ? value : otherwise);

function wireBytes({ text }) {
  return new TextEncoder().encode(JSON.stringify(text)).length;
}
