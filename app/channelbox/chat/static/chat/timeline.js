/* Timeline: a window of a few hundred messages on the room's history, live at its lower end.

   While somebody reads far above the end, the window's end may be cut off. It is then detached: new messages are only
   counted, and scrolling down loads them over HTTP until the window ends with the newest again. */
import { Busy } from "../channelbox/request.js";
import { element, translate } from "../channelbox/ui.js";
import { dayNumber } from "../channelbox/times.js";
import { nameDay, render } from "./message.js";
import { PAGE_SIZE } from "./history.js";

const MAX_AT_END = 300; // messages while the newest is in view
const MAX_MESSAGES = 600; // messages in any case
const END_PX = 60; // from the end that count as being there
const PRELOAD_PX = 600; // before an end at which more is loaded
const RETRY_MS = 10_000; // after a failed load

export class Timeline {
  #scroller; #log; #top; #pill; #load; #viewer = { you: "", mayRemove: false };
  #items = []; #newest = 0; #settled = false; #unseen = 0;
  #complete = false; // there are no older messages
  #stick = true; // the newest message is in view, and stays there
  #floor = 1; #loading = false; #failed = ""; #retry = 0; #generation = 0; #today = dayNumber(new Date());
  #removing = new Set(); #removed = new Map(); // by sequence number; the latter while messages are being loaded

  /** @param options scroller, log, top, pill: elements; load(range): see history.js. */
  constructor({ scroller, log, top, pill, load }) {
    this.#scroller = scroller;
    this.#log = log;
    this.#top = top;
    this.#pill = pill;
    this.#load = load;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    pill.addEventListener("click", () => this.toNewest());
    // Keep the end in view when the composer grows, a phone's keyboard opens, or pending messages appear.
    const watch = new ResizeObserver(() => this.#stick && this.#scrollToEnd());
    for (const part of [scroller, ...scroller.children]) watch.observe(part);
    this.#showTop();
  }

  /** The viewer: {you, mayRemove}. */
  set viewer(viewer) {
    this.#viewer = viewer;
  }

  /** Lowest sequence number that is still in the record. */
  set floor(seq) {
    this.#floor = seq;
  }

  /** Whether the window ends with the newest known message. */
  get #attached() {
    return (this.#items.at(-1)?.seq ?? 0) === this.#newest;
  }

  /** Whether the newest message is in view. */
  get atEnd() {
    return this.#stick;
  }

  /** Add messages from the WebSocket, in order. Return those that were not known. */
  receive(messages) {
    const fresh = messages.filter(({ seq }) => seq > this.#newest);
    if (!fresh.length) return fresh;
    const attached = this.#attached;
    this.#newest = fresh.at(-1).seq;
    if (attached && this.#stick) {
      this.#append(fresh.slice(-MAX_AT_END), fresh.length > MAX_AT_END);
      this.#cutTop(MAX_AT_END);
      this.#scrollToEnd();
    } else {
      const { scrollTop, scrollHeight } = this.#scroller;
      if (attached && (this.#items.length + fresh.length <= MAX_MESSAGES || scrollTop > scrollHeight / 2)) {
        this.#append(fresh);
        this.#keepPosition(() => this.#cutTop(MAX_MESSAGES));
      }
      this.#unseen += fresh.filter(({ user }) => user !== this.#viewer.you).length;
    }
    this.#showPill();
    this.#showTop();
    return fresh;
  }

  /** Apply a deletion event. */
  remove({ removes: seq, user: by, seq: deletion }) {
    const removed = { by, seq: deletion };
    if (this.#loading) this.#removed.set(seq, removed);
    const index = this.#items.findIndex((item) => item.seq === seq);
    if (index < 0) return;
    this.#items[index] = { ...this.#items[index], message: "", removed };
    const row = render(this.#items[index], this.#items[index - 1] ?? null, this.#viewer);
    const old = this.#log.children[index];
    const replace = () => old.replaceWith(row);
    if (old.offsetTop < this.#scroller.scrollTop) this.#keepPosition(replace);
    else replace();
    if (this.#stick) this.#scrollToEnd();
  }

  /** Mark messages as being removed. seqs: a Set of their numbers. */
  removing(seqs) {
    this.#removing = seqs;
    for (const row of this.#log.children) row.classList.toggle("removing", seqs.has(Number(row.dataset.seq)));
  }

  /** Note that everything up to this number was received. Only then may older ones be loaded, not among them. */
  settled(seq) {
    this.#settled = true;
    this.#complete ||= seq === 0;
    this.#loadAgain();
  }

  /** Clear it: too many events were missed, or the room was made anew. */
  reset() {
    this.#generation += 1; // outdates responses that are still to come
    this.#items = [];
    this.#newest = 0;
    this.#complete = false;
    this.#unseen = 0;
    this.#stick = true;
    this.#log.replaceChildren();
    this.#showPill();
    this.#showTop();
  }

  /** Scroll to the newest message, loading it if the window is detached. */
  async toNewest() {
    if (!this.#attached && !this.#loading) {
      await this.#whileLoading(async () => {
        const newest = await this.#fetch({});
        if (!newest) return;
        this.#items = [];
        this.#log.replaceChildren();
        this.#complete = newest.length < PAGE_SIZE;
        this.#newest = Math.max(this.#newest, newest.at(-1)?.seq ?? 0);
        this.#append(newest);
      });
    }
    if (!this.#attached && this.#failed) return; // the failure is shown
    this.#stick = true;
    this.#scrollToEnd();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const below = scrollHeight - scrollTop - clientHeight;
    this.#stick = below < END_PX && this.#attached;
    if (this.#stick) this.#unseen = 0;
    this.#showPill();
    this.#loadMissing();
  }

  /** Load what is missing near the reader; a load in progress calls this again at its end. */
  #loadMissing() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const below = scrollHeight - scrollTop - clientHeight;
    if (this.#failed) return;
    if (scrollTop < PRELOAD_PX) this.#loadOlder();
    if (below < PRELOAD_PX && !this.#attached) this.#loadNewer();
  }

  async #loadOlder() {
    const first = this.#items[0];
    if (this.#loading || this.#complete || !this.#settled) return;
    await this.#whileLoading(async () => {
      const older = await this.#fetch(first ? { before: first.seq } : {});
      if (!older || this.#items[0] !== first) return; // the window moved meanwhile
      this.#complete = older.length < PAGE_SIZE;
      this.#newest = Math.max(this.#newest, older.at(-1)?.seq ?? 0);
      this.#prepend(older);
      if (!first) this.#scrollToEnd();
    });
    this.#loadMissing();
  }

  async #loadNewer() {
    const last = this.#items.at(-1);
    if (this.#loading || !last) return;
    await this.#whileLoading(async () => {
      const newer = await this.#fetch({ after: last.seq });
      if (!newer || this.#items.at(-1) !== last) return;
      this.#newest = Math.max(this.#newest, newer.at(-1)?.seq ?? 0);
      this.#append(newer);
      this.#keepPosition(() => this.#cutTop(MAX_MESSAGES));
    });
    this.#scrolled();
  }

  /** Load a range, and apply removals received meanwhile. Return null if the timeline was cleared meanwhile. */
  async #fetch(range) {
    const generation = this.#generation;
    const loaded = await this.#load(range);
    if (generation !== this.#generation) return null;
    return loaded.map((item) => (this.#removed.has(item.seq) ? { ...item, message: "", removed: this.#removed.get(item.seq) } : item));
  }

  async #whileLoading(work) {
    this.#loading = true;
    this.#removed.clear();
    this.#failed = "";
    clearTimeout(this.#retry);
    this.#showTop();
    this.#log.setAttribute("aria-live", "off"); // do not announce old messages
    try {
      await work();
    } catch (error) {
      const busy = error instanceof Busy;
      this.#failed = busy ? translate("load_busy") : translate("load_failed");
      this.#retry = setTimeout(() => this.#loadAgain(), busy ? Math.max(RETRY_MS, error.seconds * 1_000) : RETRY_MS);
    } finally {
      this.#loading = false;
      this.#showTop();
      this.#showPill();
      setTimeout(() => this.#log.setAttribute("aria-live", "polite"), 100);
    }
  }

  /** Load what is missing, also after a failure. */
  #loadAgain() {
    clearTimeout(this.#retry);
    this.#failed = "";
    this.#showTop();
    this.#showPill();
    this.#loadMissing();
  }

  #append(messages, replace = false) {
    if (replace) {
      this.#items = [];
      this.#log.replaceChildren();
      this.#complete = false;
    }
    const rows = document.createDocumentFragment();
    let previous = this.#items.at(-1) ?? null;
    for (const message of messages) {
      rows.append(render(message, previous, this.#viewer));
      previous = message;
    }
    this.#items.push(...messages);
    if (messages[0]?.seq <= this.#floor) this.#complete = true;
    this.#log.append(rows);
    this.removing(this.#removing);
    this.#updateDays();
  }

  #prepend(messages) {
    if (!messages.length) return;
    this.#keepPosition(() => {
      const rows = document.createDocumentFragment();
      let previous = null;
      for (const message of messages) {
        rows.append(render(message, previous, this.#viewer));
        previous = message;
      }
      const next = this.#items[0];
      if (next) this.#log.firstElementChild.replaceWith(render(next, previous, this.#viewer));
      this.#log.prepend(rows);
      this.#items.unshift(...messages);
    });
    // The other end is out of view, so nothing moves.
    while (this.#items.length > MAX_MESSAGES) {
      this.#items.pop();
      this.#log.lastElementChild.remove();
    }
    this.#showPill();
  }

  #cutTop(max) {
    const over = this.#items.length - max;
    if (over <= 0) return;
    this.#items.splice(0, over);
    for (let n = 0; n < over; n += 1) this.#log.firstElementChild.remove();
    this.#log.firstElementChild.replaceWith(render(this.#items[0], null, this.#viewer));
    this.#complete = false;
  }

  /** Change rows above the reader without moving what is in view. */
  #keepPosition(change) {
    const fromEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    change();
    this.#showTop();
    this.#scroller.scrollTop = this.#scroller.scrollHeight - fromEnd;
  }

  #scrollToEnd() {
    this.#unseen = 0;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#showPill();
  }

  #showPill() {
    this.#pill.hidden = this.#stick;
    if (this.#stick) return;
    const later = this.#failed && !this.#attached;
    const text = later ? translate("newer_later") : this.#unseen ? translate("new_messages", { n: this.#unseen }) : translate("newest");
    const label = this.#pill.querySelector("span");
    if (label.textContent !== text) label.textContent = text;
    this.#pill.classList.toggle("main", this.#unseen > 0);
  }

  #showTop() {
    const text = this.#failed
      ? this.#failed
      : !this.#settled
        ? translate("opening")
        : this.#loading
          ? translate("loading")
          : !this.#complete
            ? ""
            : this.#items.length
              ? translate("beginning")
              : translate("empty");
    this.#top.classList.toggle("empty", this.#complete && !this.#items.length);
    if (this.#top.dataset.words === text) return;
    this.#top.dataset.words = text;
    this.#top.replaceChildren(element("p", "", text));
    if (!this.#failed) return;
    const again = element("button", "button small", translate("try_again"));
    again.type = "button";
    again.addEventListener("click", () => this.#loadAgain());
    this.#top.append(again);
  }

  #updateDays() {
    const today = dayNumber(new Date());
    if (today === this.#today) return;
    this.#today = today;
    for (const label of this.#log.querySelectorAll("[data-day]")) nameDay(label);
  }
}
