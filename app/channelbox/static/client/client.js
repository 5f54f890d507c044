/* State machine of one client in one room: connection, room and outbox, without a WebSocket or a clock.

   Call a method for each input; `now` is the time in seconds on a monotonic clock. Apply the effects that it returns in
   order, and those of a call made meanwhile after them. Call `tick` at `due`. States: idle, connecting, catching_up,
   joined, waiting, stopped (docs/protocol.md). Effects, by `do`:

   connect {query}                  open a new connection with this query, replacing any earlier one
   drop                             close the connection with 1000; ignore everything it still delivers, also its close
   send {frame}                     send the frame as JSON
   state {name, code, reason, until}  the state has changed; code and reason of the close; time of the next attempt
   welcome {frame}                  the connection has entered the room
   event {event}                    the next event of the room, in sequence and once: show it
   forget                           clear the display: what follows does not continue it
   gap {first, last, gone}          these events are not sent; gone: no longer in the record, otherwise HTTP has them
   stored {id, seq}                 the message with this id is stored under this number
   refused {id, code, error}        the message with this id was not stored and is not sent again automatically
   outbox_changed                   the outbox's items or states have changed: show and save them
   other {frame}                    a frame that changes no state: presence, typing, an error about no message, new types */
import { Close, Connection, state } from "./connection.js";
import { Outbox } from "./outbox.js";
import { Room } from "./room.js";

export { Close, Connection, delay } from "./connection.js";
export { Outbox, Room };

const OTHER_PERSON = "other_person"; // reason of the state `stopped`: another person is signed in

/** The state machine. `room` holds what was received, `outbox` what is not stored yet. */
export class RoomClient {
  #connection; #you; #guest;

  /**
   * @param {{share?: number, silence?: number, fills?: boolean, random?: () => number, you?: string, guest?: boolean}}
   *   options share: see Outbox; silence: see Connection; fills: see Room. you, guest: name and kind of the person this
   *   client acts for; it stops when another person is signed in. Without `you` it then stops only while items are
   *   unanswered.
   */
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

  /** Time in seconds at which to call `tick`, or null. */
  get due() {
    const times = [this.#connection.due, this.outbox.due].filter((time) => time !== null);
    return times.length ? Math.min(...times) : null;
  }

  /**
   * Queue a message or an announcement.
   * @param item `{id, kind, text}`, and what else the display needs.
   */
  say(item, now) {
    return this.outbox.add({ kind: "message", ...item }, now);
  }

  /**
   * Queue the removal of a message's text.
   * @param item `{id, seq, text}`; text: how the message began, for the display.
   */
  delete(item, now) {
    return this.outbox.add({ ...item, kind: "delete", epoch: this.room.epoch }, now);
  }

  /** Connect immediately, without waiting for a scheduled attempt. */
  connect(now) {
    const effects = [...this.#disconnected(0, now), ...this.#connection.connect(now)];
    this.room.opened();
    return effects;
  }

  /** Close the connection and stay idle until `connect`. */
  leave(now) {
    return [...this.#disconnected(1000, now), ...this.#connection.leave()];
  }

  /** Process a frame, parsed from JSON. Anything but an object only counts as a sign of life. */
  frame(frame, now) {
    if (!this.#connection.live) return [];
    if (frame === null || typeof frame !== "object" || Array.isArray(frame)) {
      this.#connection.heard(now, this.room.welcomed);
      return [];
    }
    if (this.#isOtherPerson(frame)) {
      return [...this.#disconnected(0, now), { do: "drop" }, ...this.#connection.closed(Close.SIGN_IN, OTHER_PERSON, now)];
    }
    const before = this.state;
    const effects = [];
    for (const effect of this.room.frame(frame)) {
      if (effect.do === "rejoin") return [...effects, ...this.#disconnected(0, now), ...this.#connection.giveUp(now)];
      effects.push(effect);
      if (effect.do === "event" && effect.event.user === this.room.you) effects.push(...this.#stored(effect.event, now));
    }
    this.#connection.heard(now, this.room.welcomed);
    if (frame.type === "stored") {
      effects.push(...this.#stored(frame, now));
    } else if ("error" in frame) {
      const refusal = this.outbox.refused(frame, now);
      effects.push(...(refusal.length ? refusal : [{ do: "other", frame }]));
    }
    if (this.state !== before) effects.push(state(this.state));
    if (this.room.joined && !this.outbox.ready) effects.push(...this.outbox.resume(this.room.limits, this.room.epoch, now));
    return effects;
  }

  /**
   * Process the end of the connection.
   * @param code close code; 0 or 1006: without a close frame.
   */
  closed(code, reason, now) {
    if (!this.#connection.live) return [];
    return [...this.#disconnected(code, now), ...this.#connection.closed(code, reason, now)];
  }

  /** Do what is due. */
  tick(now) {
    return [...this.#afterConnection(this.#connection.tick(now), now), ...this.outbox.pump(now)];
  }

  /** React to the return of the network or the person: connect immediately, or check the connection. */
  wake(now) {
    return this.#afterConnection(this.#connection.wake(now), now);
  }

  /** Check whether the connection still works. */
  probe(now) {
    return this.#connection.probe(now);
  }

  /** Whether this welcomes another person than this client acts for or, if that is not known, than the writer of the
      unanswered items. A guest may be given another name each time. */
  #isOtherPerson(frame) {
    const { room, outbox } = this;
    if (frame.type !== "welcome" || room.welcomed) return false;
    if (this.#you === null && !(room.you && outbox.unanswered.length)) return false;
    const [you, guest] = this.#you === null ? [room.you, room.guest] : [this.#you, this.#guest];
    return frame.you !== you && !(guest && frame.guest === true);
  }

  /** Update the room and the outbox after actions of the connection. */
  #afterConnection(effects, now) {
    if (effects.some((effect) => effect.do === "connect")) this.room.opened();
    return effects.some((effect) => effect.do === "drop") ? [...this.#disconnected(0, now), ...effects] : effects;
  }

  #disconnected(code, now) {
    this.room.opened();
    return this.outbox.suspend(code, now);
  }

  #stored({ id, seq }, now) {
    return this.outbox.has(id) ? [{ do: "stored", id, seq: seq ?? 0 }, ...this.outbox.stored(id, now)] : [];
  }
}
