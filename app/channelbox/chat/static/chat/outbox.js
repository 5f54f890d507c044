/* What was written here and is not stored yet: kept until the server says so, sent again in order after a reconnect. */

import { newId } from "./id.js";
import { OutboxStorage } from "./outbox-storage.js";

const ADOPT_EVERY = 5_000; // ms between looks for tabs that are gone
const AT_ONCE = 20; // unanswered messages on the wire
const TEMPORARY = new Set(["too_fast", "queue_full", "try_later"]);

export class Outbox {
  #items = []; #elsewhere = []; #send; #changed; #storage = null; #ready = false; #paused = 0; #timer = 0;
  #tokens = 10; #burst = 10; #rate = 5; #filled = Date.now();

  /** send(frame): true when the connection took it. changed(): what waits, here or elsewhere, is another. */
  constructor({ send, changed }) {
    this.#send = send;
    this.#changed = changed;
  }

  /** What waits, oldest first: {id, kind, text, seq?, at, state: waiting|sent|failed, since, code?, reason?, until?}.
      kind: "message", "announcement", or "delete", which removes message `seq`; its `text` is how that began. */
  get items() {
    return this.#items;
  }

  /** What waits in the person's other tabs, to be shown. */
  get elsewhere() {
    return this.#elsewhere;
  }

  /** Takes up what an earlier load of this page left behind. The key names the person too: nobody sends another's words. */
  async open(key) {
    if (this.#storage) return;
    this.#storage = new OutboxStorage(key, () => this.#look());
    this.#takeOver(await this.#storage.open());
    setInterval(() => this.#ready && this.#adopt(), ADOPT_EVERY);
  }

  add(text, kind = "message", seq) {
    this.#items.push({ id: newId(), kind, text, seq, at: Date.now(), state: "waiting", since: Date.now() });
    this.#tell();
    this.#pump();
  }

  /** The connection is there and everything that was stored meanwhile has been heard. */
  resume({ rate, burst }) {
    // Half of what the room takes: other tabs of the same person count too.
    this.#rate = Math.max(1, rate / 2);
    this.#burst = Math.max(1, burst / 2);
    this.#ready = true;
    this.#adopt();
    this.#pump();
  }

  /** The connection is gone: what had no answer is unknown, and is sent again with its own id. */
  suspend() {
    this.#ready = false;
    for (const item of this.#items) if (item.state === "sent") this.#wait(item);
    this.#tell();
  }

  /** It came back, or was stored before. Returns whether it was ours. */
  stored(id) {
    if (this.#elsewhere.some((item) => item.id === id)) {
      this.#elsewhere = this.#elsewhere.filter((item) => item.id !== id);
      this.#changed();
    }
    const before = this.#items.length;
    this.#items = this.#items.filter((item) => item.id !== id);
    if (this.#items.length === before) return false;
    this.#tell();
    this.#pump();
    return true;
  }

  /** An error frame about one of ours, or about the whole connection. */
  refused({ id, code, error, retry_after: seconds = 2 }) {
    const item = this.#items.find((one) => one.id === id);
    if (TEMPORARY.has(code)) {
      this.#paused = Date.now() + seconds * 1_000 * (0.8 + 0.4 * Math.random());
      if (item) Object.assign(item, { state: "waiting", until: this.#paused });
      this.#later(this.#paused - Date.now());
    } else if (item && code === "removed") {
      this.stored(id); // by somebody else: as wanted
    } else if (item) {
      Object.assign(item, { state: "failed", code, reason: error });
    }
    this.#tell();
    this.#pump();
  }

  /** Nothing that is on the wire can be sent in this way. */
  refuseSent(code) {
    for (const item of this.#items) if (item.state === "sent") Object.assign(item, { state: "failed", code, reason: "" });
    this.#tell();
  }

  retry(id) {
    const item = this.#items.find((one) => one.id === id);
    if (item) this.#wait(item);
    this.#tell();
    this.#pump();
  }

  /** Takes a message back; returns its text. */
  take(id) {
    const item = this.#items.find((one) => one.id === id);
    this.stored(id);
    return item?.text ?? "";
  }

  #wait(item) {
    Object.assign(item, { state: "waiting", since: Date.now() });
    delete item.reason;
    delete item.until;
  }

  #pump() {
    if (!this.#ready) return;
    const pause = this.#paused - Date.now();
    if (pause > 0) {
      this.#later(pause);
      return;
    }
    let onTheWire = this.#items.filter((item) => item.state === "sent").length;
    let sent = false;
    for (const item of this.#items) {
      if (item.state !== "waiting") continue;
      if (onTheWire >= AT_ONCE || !this.#token() || !this.#send(frame(item))) break;
      Object.assign(item, { state: "sent", since: Date.now() });
      delete item.until;
      onTheWire += 1;
      sent = true;
    }
    if (sent) this.#tell();
  }

  #token() {
    const now = Date.now();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#filled) / 1_000) * this.#rate);
    this.#filled = now;
    if (this.#tokens < 1) {
      this.#later(((1 - this.#tokens) / this.#rate) * 1_000);
      return false;
    }
    this.#tokens -= 1;
    return true;
  }

  #later(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#pump(), Math.max(20, ms));
  }

  #tell() {
    this.#storage?.keep(this.#items);
    this.#changed();
  }

  #adopt() {
    this.#storage?.adopt((items) => this.#takeOver(items));
  }

  /** Oldest first, as they were written, whichever tab that was. */
  #takeOver(kept) {
    const known = new Set(this.#items.map(({ id }) => id));
    for (const item of kept) {
      if (known.has(item.id)) continue;
      if (item.state === "sent") this.#wait(item);
      this.#items.push(item);
    }
    this.#items.sort((a, b) => a.at - b.at);
    this.#tell();
    this.#look();
    this.#pump();
  }

  #look() {
    this.#elsewhere = this.#storage.others;
    this.#changed();
  }
}

/** As docs/protocol.md has it. */
function frame({ id, kind = "message", text, seq }) {
  if (kind === "delete") return { type: kind, seq, id };
  return { type: kind, message: text, id };
}
