/* What was written here and is not stored yet: the machine sends it, this keeps it over reloads and between tabs. */
import { seconds } from "../channelbox/socket.js";
import { newId } from "./id.js";
import { OutboxStorage } from "./outbox-storage.js";

const ADOPT_EVERY = 5_000; // ms between looks for tabs that are gone

export class Outbox {
  #client; #perform; #changed; #elsewhere = []; #storage = null;

  /** client: the room's machine; perform(effects): carries out what it returns; changed(): what waits is another. */
  constructor({ client, perform, changed }) {
    this.#client = client;
    this.#perform = perform;
    this.#changed = changed;
  }

  /** What waits or failed, oldest first: the machine's items, with `at`, when it was written. */
  get items() {
    return this.#client.outbox.items;
  }

  /** What waits in the person's other tabs, to be shown. */
  get elsewhere() {
    return this.#elsewhere;
  }

  /** Takes up what an earlier load of this page left behind. The key names the person too: nobody sends another's words. */
  async open(key) {
    this.#storage = new OutboxStorage(key, () => this.#look());
    this.#takeOver(await this.#storage.open());
    setInterval(() => this.adopt(), ADOPT_EVERY);
  }

  /** Says something; kind "delete" removes message `seq`, and `text` is how that began. */
  add(text, kind = "message", seq) {
    // Other tabs and later loads sort by this: also after the clock was set back, the next is behind the last.
    const at = Math.max(Date.now(), this.items.at(-1)?.at ?? 0);
    const item = { id: newId(), kind, text, seq, at };
    this.#perform(kind === "delete" ? this.#client.delete(item, seconds()) : this.#client.say(item, seconds()));
  }

  retry(id) {
    this.#perform(this.#client.outbox.retry(id, seconds()));
  }

  /** Takes a message back; returns its text. */
  take(id) {
    const item = this.#client.outbox.take(id);
    this.keep();
    return item?.text ?? "";
  }

  /** The machine's items have changed. */
  keep() {
    this.#storage?.keep(this.items);
    this.#changed();
  }

  /** It was heard: another tab's waits no longer. */
  stored(id) {
    if (!this.#elsewhere.some((item) => item.id === id)) return;
    this.#elsewhere = this.#elsewhere.filter((item) => item.id !== id);
    this.#changed();
  }

  /** Takes over what tabs that are gone left behind, once this one can send it. */
  adopt() {
    if (this.#client.outbox.ready) this.#storage?.adopt((items) => this.#takeOver(items));
  }

  /** Oldest first, as they were written, whichever tab that was. */
  #takeOver(kept) {
    // 0.1.0 kept the reason of a failure under another name.
    const items = kept.map((item) => ({ kind: "message", error: item.reason ?? "", ...item }));
    this.#perform(this.#client.outbox.restore(items, ({ at }) => at, seconds()));
    this.#look();
  }

  #look() {
    this.#elsewhere = this.#storage.others;
    this.#changed();
  }
}
