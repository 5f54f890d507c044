/* What a client has received of a room, and where it resumes: each event once, in sequence, and of one epoch only.

   The resume point `last` is the newest number up to which the client has everything since the start of its display. It
   advances with events in sequence, and with gaps that the server announces. */

const ANSWERS = ["stored", "pong"];
const REJOIN = { do: "rejoin" }; // events are missing without a gap frame: connect again, from `last`

/** A room as one client sees it. Call `opened` for each connection, then `frame` for each frame. */
export class Room {
  last = null; // resume point; null: nothing is shown yet
  epoch = null; // of what is shown; null: not known
  floor = 1; // lower numbers are no longer in the record
  goal = null; // the room's newest number at the welcome: `last` reaches it when the client has caught up
  you = "";
  guest = false;
  may = [];
  limits = {};
  version = "";
  welcomed = false;
  joined = false;

  #fills;
  #undecided = false; // the next frame tells whether events continue the display
  #offeredEpoch = null; // of the welcome, until that is decided
  #rejoinedFor = null; // missing events for which the client has reconnected: [last, seq]

  /** @param options fills: the caller loads the events of a gap over HTTP and passes them on before later frames. */
  constructor({ fills = false } = {}) {
    this.#fills = fills;
  }

  /** Query string for the next connection. */
  get query() {
    if (this.last === null) return "";
    return `?after=${this.last}${this.epoch ? `&epoch=${encodeURIComponent(this.epoch)}` : ""}`;
  }

  /** Number of events still to come before the client has caught up. */
  get missed() {
    return this.goal !== null && this.last !== null ? Math.max(0, this.goal - this.last) : 0;
  }

  /** Forget what is known of the connection, because one begins or has ended. */
  opened() {
    this.welcomed = this.joined = this.#undecided = false;
    this.goal = null;
  }

  /** Process a frame. Answers and errors belong to the outbox and change nothing here. */
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
    if (this.welcomed || seq === null) return []; // only the first welcome of a connection counts
    this.welcomed = true;
    this.you = text(frame.you);
    this.guest = frame.guest === true;
    this.version = text(frame.version);
    this.floor = number(frame.floor) || 1;
    this.may = Array.isArray(frame.may) ? frame.may : [];
    this.limits = frame.limits && typeof frame.limits === "object" && !Array.isArray(frame.limits) ? frame.limits : {};
    const epoch = text(frame.epoch) || null;
    const resumed = frame.resumed === true;
    /** @type {object[]} */
    const effects = [{ do: "welcome", frame }];
    const known = epoch !== null && this.epoch !== null; // whether the epochs can be compared
    if (this.last !== null && (seq < this.last || (known && epoch !== this.epoch))) {
      effects.push(...this.#forget(epoch));
    } else if (this.last !== null && !resumed && !known) {
      this.#undecided = true;
      this.#offeredEpoch = epoch;
    } else {
      this.epoch = epoch || this.epoch;
    }
    if (this.last === null && seq === 0) this.last = 0; // an empty room is complete
    this.goal = seq;
    this.joined = !resumed;
    return effects;
  }

  #event(frame, seq) {
    if (!this.welcomed) return [];
    const effects = this.#decide();
    if (this.last !== null) {
      if (seq <= this.last) return effects;
      if (seq > this.last + 1) {
        effects.push(...this.#missing(seq));
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
        // The same room, and too many events were missed.
        this.#undecided = false;
        this.epoch = this.#offeredEpoch || this.epoch;
      }
      if (this.#fills) return [{ do: "gap", first, last, gone }];
      if (this.last !== null && last <= this.last) return [];
      this.last = last;
      return [{ do: "gap", first, last, gone }, { do: "forget" }];
    }
    const effects = this.#decide();
    let from = first;
    if (this.last !== null) {
      if (last <= this.last) return effects;
      if (first > this.last + 1) {
        effects.push(...this.#missing(first));
        if (!this.welcomed) return effects;
      }
      from = this.last + 1;
    }
    this.last = last;
    return [...effects, { do: "gap", first: from, last, gone }];
  }

  /** Reconnect once for the missing events between `last` and seq. If they do not come then either, they are gone. */
  #missing(seq) {
    const { last } = this;
    if (this.#rejoinedFor?.[0] === last && this.#rejoinedFor[1] === seq) {
      return [{ do: "gap", first: last + 1, last: seq - 1, gone: true }];
    }
    this.#rejoinedFor = [last, seq];
    this.opened();
    return [REJOIN];
  }

  /** Clear the display if no gap followed the welcome: the room was made anew, or a backup was restored. */
  #decide() {
    if (!this.#undecided) return [];
    this.#undecided = false;
    return this.#forget(this.#offeredEpoch);
  }

  #forget(epoch) {
    this.last = null;
    this.epoch = epoch;
    return [{ do: "forget" }];
  }
}

const number = (value) => (Number.isSafeInteger(value) && value >= 0 ? value : null);
const text = (value) => (typeof value === "string" ? value : "");
