/* What a person wrote and is not stored yet: sent in order, below the server's rate limits, again after a reconnect.

   An item is sent again only after a refusal that allows it, or on a new connection: it is never on the wire twice.

   An item is {id, kind, text, seq, epoch, state, since, until, code, error}, and what else it was added with.
   kind: "message", "announcement", or "delete", which removes event `seq` of the room's `epoch`.
   state: waiting, sent (not answered yet) or failed (not stored: `code` and `error` say why).
   since: time in seconds at which it was sent or began to wait. until: time before which it is not sent again. */
import { Close } from "./connection.js";

const MAX_ON_THE_WIRE = 20;
const SHARE = 0.5; // of the limits: a person's other connections count too, and a stall makes messages arrive at once
const TEMPORARY = ["too_fast", "queue_full", "try_later"]; // codes that allow a retry, also without `retry_after`
const RETRY_SECONDS = 2; // if the error names no time
const DEFAULT_RATE = 10; // a second, if the welcome has no limits
const DEFAULT_BURST = 20;
const CHANGED = { do: "outbox_changed" };

/** The items, and the rate at which they are sent (a token bucket). */
export class Outbox {
  #share; #random; #rate = DEFAULT_RATE; #burst = DEFAULT_BURST; #tokens = null; #refilledAt = 0;
  #pausedUntil = 0; // nothing is sent before
  #awaitingAnswers = false; // after a refusal: nothing is sent until all sent items are answered

  items = []; // oldest first
  ready = false; // joined: items may be sent
  due = null; // time in seconds at which to call `pump`

  /** @param options share: the fraction of the server's rate limits to use. */
  constructor({ share = SHARE, random = Math.random } = {}) {
    this.#share = share;
    this.#random = random;
  }

  has(id) {
    return this.items.some((item) => item.id === id);
  }

  /** Items that are neither stored nor failed. */
  get unanswered() {
    return this.items.filter(({ state }) => state !== "failed");
  }

  /** Append an item, to be sent in its turn. */
  add(item, now) {
    this.items.push({ text: "", seq: null, epoch: null, ...item, ...waiting(now) });
    return [CHANGED, ...this.pump(now)];
  }

  /**
   * Add items that an earlier load of the page or another tab left behind, each id once, and sort all items.
   * @param order order(item): the sort key.
   */
  restore(items, order, now) {
    for (const item of items) {
      if (this.has(item.id)) continue;
      this.items.push(item.state === "failed" ? item : { ...item, ...waiting(now) });
    }
    this.items.sort((a, b) => order(a) - order(b));
    return [CHANGED, ...this.pump(now)];
  }

  /** Send a failed item again. */
  retry(id, now) {
    for (const item of this.items) if (item.id === id && item.state === "failed") Object.assign(item, waiting(now));
    return [CHANGED, ...this.pump(now)];
  }

  /** Remove an item, whatever its state, and return it, or null if there is none. */
  take(id) {
    const index = this.items.findIndex((item) => item.id === id);
    return index < 0 ? null : this.items.splice(index, 1)[0];
  }

  /**
   * Start sending: the client has joined. A deletion for another epoch fails: it would remove another message.
   * @param limits `{rate, burst}` of the welcome: messages a second, and at once.
   */
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

  /** Stop sending: the connection has ended. Whether unanswered items are stored is unknown: they are sent again, with
      the same ids; after 1009 the largest fails instead. */
  suspend(code, now) {
    this.ready = this.#awaitingAnswers = false;
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

  /** Remove a stored item. */
  stored(id, now) {
    return this.take(id) ? [CHANGED, ...this.pump(now)] : [];
  }

  /** Process an error frame. Return no effects if it names no item and asks for no pause. */
  refused(frame, now) {
    const item = this.unanswered.find(({ id }) => id === frame.id);
    const code = String(frame.code ?? "");
    const error = String(frame.error ?? "");
    const effects = [];
    if (TEMPORARY.includes(code) || "retry_after" in frame) {
      const seconds = positive(frame.retry_after, RETRY_SECONDS);
      this.#pausedUntil = Math.max(this.#pausedUntil, now + seconds * (1 + 0.2 * this.#random()));
      if (item) {
        Object.assign(item, { state: "waiting", until: this.#pausedUntil });
        this.#awaitingAnswers = true;
      }
    } else if (!item) {
      return [];
    } else if (code === "removed" && item.kind === "delete") {
      this.take(item.id); // by somebody else already, as wanted
      effects.push({ do: "refused", id: item.id, code, error });
    } else {
      effects.push(fail(item, code, error));
    }
    return [...effects, CHANGED, ...this.pump(now)];
  }

  /** Send what may be sent now. */
  pump(now) {
    this.due = null;
    let onTheWire = this.items.filter(({ state }) => state === "sent").length;
    if (!this.ready || (this.#awaitingAnswers && onTheWire)) return [];
    const effects = [];
    for (const item of this.items) {
      if (item.state !== "waiting") continue;
      if (now < this.#pausedUntil) {
        this.due = this.#pausedUntil;
        break;
      }
      this.#awaitingAnswers = false;
      if (onTheWire >= MAX_ON_THE_WIRE || !this.#takeToken(now)) break;
      Object.assign(item, { state: "sent", since: now, until: null });
      onTheWire += 1;
      effects.push({ do: "send", frame: toFrame(item) });
    }
    return effects.length ? [...effects, CHANGED] : [];
  }

  #takeToken(now) {
    const refill = Math.max(0, now - this.#refilledAt) * this.#rate;
    this.#tokens = this.#tokens === null ? this.#burst : Math.min(this.#burst, this.#tokens + refill);
    this.#refilledAt = now;
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

function toFrame({ id, kind, text, seq }) {
  return kind === "delete" ? { type: "delete", seq, id } : { type: kind, message: text, id };
}

const positive = (value, otherwise) => (typeof value === "number" && value > 0 ? value : otherwise);

function wireBytes({ text }) {
  return new TextEncoder().encode(JSON.stringify(text)).length;
}
