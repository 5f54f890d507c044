/* A room's server as docs/protocol.md describes one, in memory, and a client before it whose connections are cut. */
import assert from "node:assert/strict";
import { RoomClient } from "../../../clients/js/client.js";

export const HISTORY = 5;
const CATCH_UP = 12;
const YOU = "alice";

/** Random numbers from 0 to 1 that are the same for a seed (mulberry32). */
export function chance(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The record of one room, and what a connection gets of it. modern: with epoch, floor and gaps that are gone. */
export class Server {
  epoch = 1;
  newest = 0;
  refuses = 0; // so many messages to come, with the advice to send them later
  record = new Map(); // numbers that are missing are gone
  #ids = new Map();

  constructor(modern) {
    this.modern = modern;
  }

  /** The number, and whether it is new. */
  store(user, id, message) {
    const known = this.#ids.get(`${user} ${id}`);
    if (known) return [known, false];
    this.newest += 1;
    this.#ids.set(`${user} ${id}`, this.newest);
    const event = { type: "message", seq: this.newest, id, user, message };
    this.record.set(this.newest, { ...event, epoch: this.epoch }); // the epoch is for the test: which room it is of
    return [this.newest, true];
  }

  /** Another room of this name, or a backup. */
  anew(events) {
    this.epoch += 1;
    this.newest = 0;
    this.record.clear();
    this.#ids.clear();
    for (let n = 0; n < events; n += 1) this.store("bob", `anew-${n}`, "again");
  }

  erase(last) {
    for (let seq = 1; seq <= last; seq += 1) this.record.delete(seq);
  }

  /** Everything that a connection gets at once. */
  greeting(query) {
    const asked = new URLSearchParams(query);
    const after = asked.has("after") ? Number(asked.get("after")) : null;
    const same = !this.modern || (asked.get("epoch") ?? String(this.epoch)) === String(this.epoch);
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

/** A client before that server: frames go either way one by one, and what is on the way may be lost. */
export class Run {
  now = 1000;
  shown = [];
  gone = new Set();
  answers = []; // [id, stored or refused]
  down = [];
  up = [];
  connected = false;
  onTheWire = new Set();

  constructor(server, seed = 1) {
    this.server = server;
    this.client = new RoomClient({ random: chance(seed) });
    this.apply(this.client.connect(this.now));
  }

  apply(effects) {
    for (const effect of effects) {
      switch (effect.do) {
        case "connect":
          this.lost();
          this.connected = true;
          this.down = this.server.greeting(effect.query);
          break;
        case "drop":
          this.lost();
          break;
        case "send":
          if (effect.frame.id) {
            assert.ok(!this.onTheWire.has(effect.frame.id), "twice on one connection");
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

  lost() {
    this.connected = false;
    this.up = [];
    this.down = [];
    this.onTheWire.clear();
  }

  cut(code = 1006) {
    if (!this.connected) return;
    this.lost();
    this.apply(this.client.closed(code, "", this.now));
  }

  heard(frame) {
    if (!this.connected) return;
    if (frame?.error) this.onTheWire.delete(frame.id);
    this.apply(this.client.frame(frame, this.now));
  }

  receive(frames) {
    for (let n = 0; n < frames && this.down.length; n += 1) this.heard(this.down.shift());
  }

  /** What the client has sent arrives and is stored; everybody hears it. */
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

  anotherSays(count) {
    for (let n = 0; n < count; n += 1) {
      const [seq] = this.server.store("bob", `bob-${this.server.epoch}-${this.server.newest}`, "hi");
      if (this.connected) this.down.push(this.server.record.get(seq));
    }
  }

  passTime(seconds) {
    this.now += seconds;
    this.apply(this.client.tick(this.now));
  }

  /** Nothing breaks any more, until all is still. */
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

  /** What is shown is one piece of the room of now, each once, in order, up to its newest number. */
  check() {
    const { newest, epoch, record } = this.server;
    const numbers = this.shown.map(({ seq }) => seq);
    assert.ok(this.shown.every((event) => event.epoch === epoch), "nothing of another room");
    if (newest) assert.equal(this.client.room.last, newest);
    const expected = [];
    for (let seq = numbers[0] ?? newest + 1; seq <= newest; seq += 1) if (!this.gone.has(seq)) expected.push(seq);
    assert.deepEqual(numbers, expected);
    if (!numbers.length) for (let seq = newest - HISTORY + 1; seq <= newest; seq += 1) assert.ok(!record.has(seq));
  }
}
