/* The client's outbox, kept over reloads of the page and shared between tabs. */
import { seconds } from "../channelbox/socket.js";
import { newId } from "./id.js";
import { OutboxStorage } from "./outbox-storage.js";

const ADOPT_INTERVAL_MS = 5_000; // between checks for closed tabs

export class PersistentOutbox {
  #client; #perform; #changed; #elsewhere = []; #storage = null;

  /** @param options client; perform(effects): applies its effects; changed(): `items` or `elsewhere` have changed. */
  constructor({ client, perform, changed }) {
    this.#client = client;
    this.#perform = perform;
    this.#changed = changed;
  }

  /** The client's items, oldest first. at: time of writing, in ms of the computer's clock. */
  get items() {
    return this.#client.outbox.items;
  }

  /** Items of the person's other tabs. */
  get elsewhere() {
    return this.#elsewhere;
  }

  /**
   * Restore what an earlier load of this page left behind.
   * @param key with room and person: nobody sends another person's items.
   */
  async open(key) {
    this.#storage = new OutboxStorage(key, () => this.#refresh());
    this.#takeOver(await this.#storage.open());
    setInterval(() => this.adopt(), ADOPT_INTERVAL_MS);
  }

  /** Queue an item. kind "delete" removes message `seq`; `text` is how that began. */
  add(text, kind = "message", seq) {
    // Other tabs and later loads sort by this: it must not decrease when the clock is set back.
    const at = Math.max(Date.now(), this.items.at(-1)?.at ?? 0);
    const item = { id: newId(), kind, text, seq, at };
    this.#perform(kind === "delete" ? this.#client.delete(item, seconds()) : this.#client.say(item, seconds()));
  }

  retry(id) {
    this.#perform(this.#client.outbox.retry(id, seconds()));
  }

  /** Remove an item and return its text. */
  take(id) {
    const item = this.#client.outbox.take(id);
    this.save();
    return item?.text ?? "";
  }

  save() {
    this.#storage?.save(this.items);
    this.#changed();
  }

  /** Note that this item is stored: it no longer waits in another tab. */
  stored(id) {
    if (!this.#elsewhere.some((item) => item.id === id)) return;
    this.#elsewhere = this.#elsewhere.filter((item) => item.id !== id);
    this.#changed();
  }

  /** Take over what closed tabs left behind, if this tab can send it now. */
  adopt() {
    if (this.#client.outbox.ready) this.#storage?.adopt((items) => this.#takeOver(items));
  }

  /** Add saved items to the client's outbox, sorted by time of writing. */
  #takeOver(saved) {
    // Version 0.1.0 saved the reason of a failure as `reason`.
    const items = saved.map((item) => ({ kind: "message", error: item.reason ?? "", ...item }));
    this.#perform(this.#client.outbox.restore(items, ({ at }) => at, seconds()));
    this.#refresh();
  }

  #refresh() {
    this.#elsewhere = this.#storage.others;
    this.#changed();
  }
}
