/* One person in one room: the connection, the room and the outbox as one machine, without a socket or a clock.

   Call a method with what happens and the time in seconds; apply the effects that it returns, in order, and those of a
   call that is made meanwhile behind them; call `tick` at `due`. States: idle, connecting, catching_up, joined, waiting, stopped (docs/protocol.md). Effects, by `do`:

   connect {query}                  open a new connection with this query, in place of any earlier one
   drop                             close the connection with 1000, and ignore all that it still brings, its close too
   send {frame}                     send it as JSON
   state {name, code, reason, until}  the state has changed; code and reason of the close, and the time of the next attempt
   welcome {frame}                  the connection is in the room
   event {event}                    the next event of the room, in sequence and once: show it
   forget                           clear the display: what follows does not continue it
   gap {first, last, gone}          these events do not come; gone: they are no longer there, else HTTP has them
   stored {id, seq}                 the message with this id is stored under this number
   refused {id, code, error}        the message with this id was not stored, and is not sent again by itself
   outbox_changed                   what waits, or its state, has changed: show it, keep it
   other {frame}                    a frame that changes no state: presence, typing, an error about no message, later types */
import { Close, Connection, state } from "./connection.js";
import { Outbox } from "./outbox.js";
import { Room } from "./room.js";

export { Close, Connection, delay } from "./connection.js";
export { Outbox, Room };

const OTHER_PERSON = "other_person"; // the reason of a stop: somebody else is signed in

/** The machine. `room` says what is heard, `outbox` what waits. */
export class RoomClient {
  #connection; #you; #guest;

  /** share: the part of the server's limits that this client takes; fills: see Room. you, guest: whose client it is; it
      stops when somebody else is signed in. Without that it stops only where something is unanswered. */
  constructor({ share, silence, fills, random, you = null, guest = false } = {}) {
    this.#you = you;
    this.#guest = guest;
    this.room = new Room({ fills });
    this.outbox = new Outbox({ share, random });
    this.#connection = new Connection({ query: () => this.room.query, silence, random });
  }

  get state() {
    if (!this.#connection.live) return this.#connection.state;
    return this.room.joined ? "joined" : this.room.welcomed ? "catching_up" : "connecting";
  }

  /** When to call `tick`; null: nothing is to come. */
  get due() {
    const times = [this.#connection.due, this.outbox.due].filter((time) => time !== null);
    return times.length ? Math.min(...times) : null;
  }

  /** Says something, or announces it. item: {id, kind, text} and what else the display wants to keep with it. */
  say(item, now) {
    return this.outbox.add({ kind: "message", ...item }, now);
  }

  /** Removes the text of a message. item: {id, seq}; its `text`: how that began, for the display. */
  delete(item, now) {
    return this.outbox.add({ ...item, kind: "delete", epoch: this.room.epoch }, now);
  }

  /** Connects at once, whatever was waited for. */
  connect(now) {
    const effects = [...this.#lost(0, now), ...this.#connection.connect(now)];
    this.room.opened();
    return effects;
  }

  /** Ends the connection, until `connect`. */
  leave(now) {
    return [...this.#lost(1000, now), ...this.#connection.leave()];
  }

  /** Takes what came, parsed from JSON; what is no object counts as a sign of life. */
  frame(frame, now) {
    if (!this.#connection.live) return [];
    if (frame === null || typeof frame !== "object" || Array.isArray(frame)) {
      this.#connection.heard(now, this.room.welcomed);
      return [];
    }
    if (this.#isAnother(frame)) {
      return [...this.#lost(0, now), { do: "drop" }, ...this.#connection.closed(Close.SIGN_IN, OTHER_PERSON, now)];
    }
    const before = this.state;
    const effects = [];
    for (const effect of this.room.frame(frame)) {
      if (effect.do === "rejoin") return [...effects, ...this.#lost(0, now), ...this.#connection.giveUp(now)];
      effects.push(effect);
      if (effect.do === "event" && effect.event.user === this.room.you) effects.push(...this.#stored(effect.event, now));
    }
    this.#connection.heard(now, this.room.welcomed);
    if (frame.type === "stored") {
      effects.push(...this.#stored(frame, now));
    } else if ("error" in frame) {
      const told = this.outbox.refused(frame, now);
      effects.push(...(told.length ? told : [{ do: "other", frame }]));
    }
    if (this.state !== before) effects.push(state(this.state));
    if (this.room.joined && !this.outbox.ready) effects.push(...this.outbox.resume(this.room.limits, this.room.epoch, now));
    return effects;
  }

  /** The connection has ended; code 0 or 1006: without a close frame. */
  closed(code, reason, now) {
    if (!this.#connection.live) return [];
    return [...this.#lost(code, now), ...this.#connection.closed(code, reason, now)];
  }

  /** Does what is due. */
  tick(now) {
    return [...this.#connected(this.#connection.tick(now), now), ...this.outbox.pump(now)];
  }

  /** The network or the person has returned. */
  wake(now) {
    return this.#connected(this.#connection.wake(now), now);
  }

  /** Sees whether the connection still leads anywhere. */
  probe(now) {
    return this.#connection.probe(now);
  }

  /** Whether this welcomes another person than the one whose client it is, or who wrote what is unanswered. A guest may
      be given another name each time. */
  #isAnother(frame) {
    const { room, outbox } = this;
    if (frame.type !== "welcome" || room.welcomed) return false;
    if (this.#you === null && !(room.you && outbox.unanswered.length)) return false;
    const [you, guest] = this.#you === null ? [room.you, room.guest] : [this.#you, this.#guest];
    return frame.you !== you && !(guest && frame.guest === true);
  }

  /** After what the connection did by itself: the room and the outbox follow it. */
  #connected(effects, now) {
    if (effects.some((effect) => effect.do === "connect")) this.room.opened();
    return effects.some((effect) => effect.do === "drop") ? [...this.#lost(0, now), ...effects] : effects;
  }

  #lost(code, now) {
    this.room.opened();
    return this.outbox.suspend(code, now);
  }

  #stored({ id, seq }, now) {
    return this.outbox.has(id) ? [{ do: "stored", id, seq: seq ?? 0 }, ...this.outbox.stored(id, now)] : [];
  }
}
