/* An in-memory server of one room, following docs/protocol.md, and a client of it whose connections are cut. */
import assert from "node:assert/strict";
import { RoomClient } from "../../../clients/js/client.js";

export const HISTORY = 5;
const CATCH_UP = 12;
const YOU = "alice";

/** Return a generator of random numbers from 0 to 1 that a seed determines (mulberry32). */
export function seededRandom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The record of one room, and the frames that a connection receives. */
export class Server {
  epoch = 1;
  newest = 0;
  refuses = 0; // number of coming messages to refuse with `retry_after`
  record = new Map(); // events by sequence number; missing numbers are gone
  #ids = new Map();

  /** @param {boolean} modern Whether the server sends an epoch, a floor and gaps that are gone. */
  constructor(modern) {
    this.modern = modern;
  }

  /** Store a message once; return its sequence number and whether it is new. */
  store(user, id, message) {
    const known = this.#ids.get(`${user} ${id}`);
    if (known) return [known, false];
    this.newest += 1;
    this.#ids.set(`${user} ${id}`, this.newest);
    const event = { type: "message", seq: this.newest, id, user, message };
    this.record.set(this.newest, { ...event, epoch: this.epoch }); // the epoch is for the checks of the test
    return [this.newest, true];
  }

  /** Replace the room by another one of this name, or by a backup, with this many events. */
  recreate(events) {
    this.epoch += 1;
    this.newest = 0;
    this.record.clear();
    this.#ids.clear();
    for (let n = 0; n < events; n += 1) this.store("bob", `anew-${n}`, "again");
  }

  /** Remove the events up to this sequence number from the record. */
  erase(last) {
    for (let seq = 1; seq <= last; seq += 1) this.record.delete(seq);
  }

  /** Return the frames that a new connection receives immediately. */
  greeting(query) {
    const params = new URLSearchParams(query);
    const after = params.has("after") ? Number(params.get("after")) : null;
    const same = !this.modern || (params.get("epoch") ?? String(this.epoch)) === String(this.epoch);
    const resumed = same && after !== null && after <= this.newest && after >= this.newest - CATCH_UP;
    const start = resumed ? after : Math.max(0, this.newest - HISTORY);
    const limits = { message: 4000, rate: 20, burst: 60 };
    const welcome = { type: "welcome", seq: this.newest, you: YOU, resumed, may: [], limits };
    if (this.modern) Object.assign(welcome, { protocol: 2, version: "0.2.0", epoch: String(this.epoch), floor: 1 });
    const frames = [welcome];
    if (same && !resumed && after !== null && after < start) frames.push({ type: "gap", from: after + 1, to: start });
    for (let seq = start + 1; seq <= this.newest; seq += 1) {
      if (this.record.has(seq)) frames.push(this.record.get(seq));
      else if (this.modern) frames.push({ type: "gap", from: seq, to: seq, gone: true });
    }
    return [...frames, { type: "presence", count: 1, users: [YOU] }];
  }
}

/** A client connected to that server. Frames are delivered one by one in each direction and may be lost. */
export class Run {
  now = 1000;
  shown = [];
  gone = new Set();
  answers = []; // [id, "stored" or "refused"]
  down = []; // frames on the way to the client
  up = []; // frames on the way to the server
  connected = false;
  onTheWire = new Set(); // ids sent on this connection without an error since

  constructor(server, seed = 1) {
    this.server = server;
    this.client = new RoomClient({ random: seededRandom(seed) });
    this.apply(this.client.connect(this.now));
  }

  apply(effects) {
    for (const effect of effects) {
      switch (effect.do) {
        case "connect":
          this.disconnected();
          this.connected = true;
          this.down = this.server.greeting(effect.query);
          break;
        case "drop":
          this.disconnected();
          break;
        case "send":
          if (effect.frame.id) {
            assert.ok(!this.onTheWire.has(effect.frame.id), "sent twice on one connection");
            this.onTheWire.add(effect.frame.id);
          }
          this.up.push(effect.frame);
          break;
        case "event":
          this.shown.push(effect.event);
          break;
        case "forget":
          this.shown = [];
          this.gone.clear();
          break;
        case "gap":
          for (let seq = effect.first; effect.gone && seq <= effect.last; seq += 1) this.gone.add(seq);
          break;
        case "stored":
        case "refused":
          this.answers.push([effect.id, effect.do]);
      }
    }
  }

  disconnected() {
    this.connected = false;
    this.up = [];
    this.down = [];
    this.onTheWire.clear();
  }

  cut(code = 1006) {
    if (!this.connected) return;
    this.disconnected();
    this.apply(this.client.closed(code, "", this.now));
  }

  receiveFrame(frame) {
    if (!this.connected) return;
    if (frame?.error) this.onTheWire.delete(frame.id);
    this.apply(this.client.frame(frame, this.now));
  }

  receive(frames) {
    for (let n = 0; n < frames && this.down.length; n += 1) this.receiveFrame(this.down.shift());
  }

  /** Deliver frames of the client to the server, which stores or refuses the messages and answers. */
  deliver(frames) {
    for (let n = 0; n < frames && this.up.length; n += 1) {
      const frame = this.up.shift();
      if (!("message" in frame)) continue;
      if (this.server.refuses) {
        this.server.refuses -= 1;
        this.down.push({ error: "Too fast.", code: "too_fast", id: frame.id, retry_after: 0.5 });
        continue;
      }
      const [seq, fresh] = this.server.store(YOU, frame.id, frame.message);
      this.down.push(fresh ? this.server.record.get(seq) : { type: "stored", id: frame.id, seq });
    }
  }

  otherSays(count) {
    for (let n = 0; n < count; n += 1) {
      const [seq] = this.server.store("bob", `bob-${this.server.epoch}-${this.server.newest}`, "hi");
      if (this.connected) this.down.push(this.server.record.get(seq));
    }
  }

  passTime(seconds) {
    this.now += seconds;
    this.apply(this.client.tick(this.now));
  }

  /** Run without further failures until the client has joined and everything is answered. */
  settle() {
    for (let turn = 0; turn < 200; turn += 1) {
      while (this.up.length || this.down.length) {
        this.deliver(this.up.length);
        this.receive(this.down.length);
      }
      if (this.client.state === "joined" && !this.client.outbox.unanswered.length) return;
      const { due } = this.client;
      this.passTime(due === null ? 1 : Math.max(0.001, due - this.now));
    }
    assert.fail(`${this.client.state}; unanswered: ${JSON.stringify(this.client.outbox.unanswered)}`);
  }

  /**
   * Check that the client shows events of the current room only, each once and in sequence up to the newest number,
   * and that only those that are gone are missing.
   */
  check() {
    const { newest, epoch, record } = this.server;
    const numbers = this.shown.map(({ seq }) => seq);
    assert.ok(this.shown.every((event) => event.epoch === epoch), "shows events of another room");
    if (newest) assert.equal(this.client.room.last, newest);
    const expected = [];
    for (let seq = numbers[0] ?? newest + 1; seq <= newest; seq += 1) if (!this.gone.has(seq)) expected.push(seq);
    assert.deepEqual(numbers, expected);
    if (!numbers.length) for (let seq = newest - HISTORY + 1; seq <= newest; seq += 1) assert.ok(!record.has(seq));
  }
}
