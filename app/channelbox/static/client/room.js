/* What a client has of a room, and from where it goes on: no hole, no double, nothing of another room.

   The resume point `last` is the newest number up to which the client has everything since where its display begins. It
   advances with what is heard in sequence, and with what the server says does not come. */

const ANSWERS = ["stored", "pong"];
const REJOIN = { do: "rejoin" }; // the server left something out without saying so: connect again, from `last`

/** A room as one client sees it. Call `opened` for each connection, then `frame` with each frame. */
export class Room {
  last = null; // the resume point; null: nothing is shown yet
  epoch = null; // of what is shown; null: not known
  floor = 1; // what is older is no longer there
  goal = null; // the room's newest number at the welcome
  you = "";
  guest = false;
  may = [];
  limits = {};
  version = "";
  welcomed = false;
  joined = false;

  #fills;
  #undecided = false; // whether what follows continues the display: the next frame tells
  #offered = null; // the epoch of the welcome, until that is decided
  #doubted = null; // the hole that the client came back for: [last, seq]

  /** fills: the client itself takes what HTTP has of a gap, as frames, before what follows on the socket. */
  constructor({ fills = false } = {}) {
    this.#fills = fills;
  }

  /** The query of the next connection's address. */
  get query() {
    if (this.last === null) return "";
    return `?after=${this.last}${this.epoch ? `&epoch=${encodeURIComponent(this.epoch)}` : ""}`;
  }

  /** How many events are still to come before the client has caught up. */
  get missed() {
    return this.goal !== null && this.last !== null ? Math.max(0, this.goal - this.last) : 0;
  }

  /** A connection begins, or has ended: nothing is known of it until its welcome. */
  opened() {
    this.welcomed = this.joined = this.#undecided = false;
    this.goal = null;
  }

  /** Takes a frame. Answers and errors are the outbox's, and change nothing here. */
  frame(frame) {
    const seq = number(frame.seq);
    let effects;
    if (frame.type === "welcome") effects = this.#welcome(frame, seq);
    else if (frame.type === "gap") effects = this.#gap(number(frame.from), number(frame.to), frame.gone === true);
    else if (ANSWERS.includes(frame.type) || "error" in frame) return [];
    else if (seq && typeof frame.type === "string") effects = this.#event(frame, seq);
    else return [{ do: "other", frame }];
    if (this.goal !== null && this.last !== null && this.last >= this.goal) this.joined = this.welcomed;
    return effects;
  }

  #welcome(frame, seq) {
    if (this.welcomed || seq === null) return []; // the first welcome of a connection counts
    this.welcomed = true;
    this.you = text(frame.you);
    this.guest = frame.guest === true;
    this.version = text(frame.version);
    this.floor = number(frame.floor) || 1;
    this.may = Array.isArray(frame.may) ? frame.may : [];
    this.limits = frame.limits && typeof frame.limits === "object" && !Array.isArray(frame.limits) ? frame.limits : {};
    const epoch = text(frame.epoch) || null;
    const resumed = frame.resumed === true;
    const effects = [{ do: "welcome", frame }];
    const known = epoch !== null && this.epoch !== null; // whether this tells the room from another
    if (this.last !== null && (seq < this.last || (known && epoch !== this.epoch))) {
      effects.push(...this.#forget(epoch));
    } else if (this.last !== null && !resumed && !known) {
      this.#undecided = true;
      this.#offered = epoch;
    } else {
      this.epoch = epoch || this.epoch;
    }
    if (this.last === null && seq === 0) this.last = 0; // there is nothing, and that is everything
    this.goal = seq;
    this.joined = !resumed;
    return effects;
  }

  #event(frame, seq) {
    if (!this.welcomed) return [];
    const effects = this.#beginAnew();
    if (this.last !== null) {
      if (seq <= this.last) return effects;
      if (seq > this.last + 1) {
        effects.push(...this.#hole(seq));
        if (!this.welcomed) return effects;
      }
    }
    this.last = seq;
    return [...effects, { do: "event", event: frame }];
  }

  #gap(first, last, gone) {
    if (!this.welcomed || first === null || last === null || last < first) return [];
    if (!gone) {
      if (this.#undecided) {
        // The same room, and too much was missed.
        this.#undecided = false;
        this.epoch = this.#offered || this.epoch;
      }
      if (this.#fills) return [{ do: "gap", first, last, gone }];
      if (this.last !== null && last <= this.last) return [];
      this.last = last;
      return [{ do: "gap", first, last, gone }, { do: "forget" }];
    }
    const effects = this.#beginAnew();
    let from = first;
    if (this.last !== null) {
      if (last <= this.last) return effects;
      if (first > this.last + 1) {
        effects.push(...this.#hole(first));
        if (!this.welcomed) return effects;
      }
      from = this.last + 1;
    }
    this.last = last;
    return [...effects, { do: "gap", first: from, last, gone }];
  }

  /** Nothing came between `last` and seq: comes back for it once; when that brings nothing, the record has a hole. */
  #hole(seq) {
    const { last } = this;
    if (this.#doubted?.[0] === last && this.#doubted[1] === seq) return [{ do: "gap", first: last + 1, last: seq - 1, gone: true }];
    this.#doubted = [last, seq];
    this.opened();
    return [REJOIN];
  }

  /** The welcome did not continue the display and no gap came: it was another room. */
  #beginAnew() {
    if (!this.#undecided) return [];
    this.#undecided = false;
    return this.#forget(this.#offered);
  }

  #forget(epoch) {
    this.last = null;
    this.epoch = epoch;
    return [{ do: "forget" }];
  }
}

const number = (value) => (Number.isSafeInteger(value) && value >= 0 ? value : null);
const text = (value) => (typeof value === "string" ? value : "");
