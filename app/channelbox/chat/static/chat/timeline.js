/* The timeline: a window of a few hundred messages on the room's history, live at its lower end.

   When the window's end was cut off, because somebody reads far above, it is "detached": what comes is counted, and
   scrolling down loads it over HTTP until the end is the newest again. */
import { Busy } from "../channelbox/request.js";
import { element, say } from "../channelbox/words.js";
import { dayNumber } from "../channelbox/times.js";
import { nameDay, render } from "./message.js";
import { PAGE } from "./history.js";

const KEEP = 300; // messages while the newest is in sight
const MOST = 600; // messages ever
const NEAR = 60; // px from the end that count as being there
const EARLY = 600; // px before an end at which more is loaded
const AGAIN = 10_000; // ms after which a load that failed is tried again

export class Timeline {
  #scroller; #log; #top; #pill; #load; #viewer = { you: "", mayRemove: false };
  #items = []; #newest = 0; #complete = false; #welcomed = false; #unseen = 0; #stick = true;
  #floor = 1; #loading = false; #failed = ""; #retry = 0; #generation = 0; #today = dayNumber(new Date());
  #removing = new Set(); #removed = new Map(); // numbers; those that were removed while older messages were on their way

  /** scroller, log, top, pill: elements. load(range): history.load. */
  constructor({ scroller, log, top, pill, load }) {
    this.#scroller = scroller;
    this.#log = log;
    this.#top = top;
    this.#pill = pill;
    this.#load = load;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    pill.addEventListener("click", () => this.toNewest());
    // The composer grows, the keyboard of a phone comes up, pending messages come: the end stays in sight.
    const watch = new ResizeObserver(() => this.#stick && this.#toEnd());
    for (const part of [scroller, ...scroller.children]) watch.observe(part);
    this.#showTop();
  }

  /** Who looks: {you, mayRemove}. */
  set viewer(viewer) {
    this.#viewer = viewer;
  }

  /** What is older than this number is no longer there. */
  set floor(seq) {
    this.#floor = seq;
  }

  /** Of the messages in the window, all or none are newer than what was heard. */
  get #attached() {
    return (this.#items.at(-1)?.seq ?? 0) === this.#newest;
  }

  /** Whether the newest is in sight. */
  get atEnd() {
    return this.#stick;
  }

  /** Messages from the socket, in order. Returns those that were not known. */
  hear(messages) {
    const fresh = messages.filter(({ seq }) => seq > this.#newest);
    if (!fresh.length) return fresh;
    const attached = this.#attached;
    this.#newest = fresh.at(-1).seq;
    if (attached && this.#stick) {
      this.#append(fresh.slice(-KEEP), fresh.length > KEEP);
      this.#cutTop(KEEP);
      this.#toEnd();
    } else {
      const { scrollTop, scrollHeight } = this.#scroller;
      if (attached && (this.#items.length + fresh.length <= MOST || scrollTop > scrollHeight / 2)) {
        this.#append(fresh);
        this.#keepPlace(() => this.#cutTop(MOST));
      }
      this.#unseen += fresh.filter(({ user }) => user !== this.#viewer.you).length;
    }
    this.#showPill();
    this.#showTop();
    return fresh;
  }

  /** An event has taken the text of an earlier one away. */
  remove({ removes: seq, user: by, seq: deletion }) {
    const removed = { by, seq: deletion };
    if (this.#loading) this.#removed.set(seq, removed);
    const index = this.#items.findIndex((item) => item.seq === seq);
    if (index < 0) return;
    this.#items[index] = { ...this.#items[index], message: "", removed };
    const row = render(this.#items[index], this.#items[index - 1] ?? null, this.#viewer);
    const old = this.#log.children[index];
    const replace = () => old.replaceWith(row);
    if (old.offsetTop < this.#scroller.scrollTop) this.#keepPlace(replace);
    else replace();
    if (this.#stick) this.#toEnd();
  }

  /** The numbers of messages whose removal is on its way. */
  removing(seqs) {
    this.#removing = seqs;
    for (const row of this.#log.children) row.classList.toggle("removing", seqs.has(Number(row.dataset.seq)));
  }

  /** Everything up to this number was heard: now older messages may be loaded, and not into the midst of it. */
  settled(seq) {
    this.#welcomed = true;
    this.#complete ||= seq === 0;
    this.#again();
  }

  /** Forgets everything: the numbers went on without us, or began again. */
  reset() {
    this.#generation += 1; // what is on its way over HTTP is of before
    this.#items = [];
    this.#newest = 0;
    this.#complete = false;
    this.#unseen = 0;
    this.#stick = true;
    this.#log.replaceChildren();
    this.#showPill();
    this.#showTop();
  }

  /** Down to the newest, loading it where the window has been cut. */
  async toNewest() {
    if (!this.#attached && !this.#loading) {
      await this.#busy(async () => {
        const newest = await this.#ask({});
        if (!newest) return;
        this.#items = [];
        this.#log.replaceChildren();
        this.#complete = newest.length < PAGE;
        this.#newest = Math.max(this.#newest, newest.at(-1)?.seq ?? 0);
        this.#append(newest);
      });
    }
    if (!this.#attached && this.#failed) return; // which the page says
    this.#stick = true;
    this.#toEnd();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const below = scrollHeight - scrollTop - clientHeight;
    this.#stick = below < NEAR && this.#attached;
    if (this.#stick) this.#unseen = 0;
    this.#showPill();
    this.#more();
  }

  /** Loads what is missing where the reader is; a load that is under way calls it again when it ends. */
  #more() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const below = scrollHeight - scrollTop - clientHeight;
    if (this.#failed) return;
    if (scrollTop < EARLY) this.#loadOlder();
    if (below < EARLY && !this.#attached) this.#loadNewer();
  }

  async #loadOlder() {
    const first = this.#items[0];
    if (this.#loading || this.#complete || !this.#welcomed) return;
    await this.#busy(async () => {
      const older = await this.#ask(first ? { before: first.seq } : {});
      if (!older || this.#items[0] !== first) return; // the window moved meanwhile
      this.#complete = older.length < PAGE;
      this.#newest = Math.max(this.#newest, older.at(-1)?.seq ?? 0);
      this.#prepend(older);
      if (!first) this.#toEnd();
    });
    this.#more();
  }

  async #loadNewer() {
    const last = this.#items.at(-1);
    if (this.#loading || !last) return;
    await this.#busy(async () => {
      const newer = await this.#ask({ after: last.seq });
      if (!newer || this.#items.at(-1) !== last) return;
      this.#newest = Math.max(this.#newest, newer.at(-1)?.seq ?? 0);
      this.#append(newer);
      this.#keepPlace(() => this.#cutTop(MOST));
    });
    this.#scrolled();
  }

  /** Loads; null when everything was forgotten meanwhile. What was removed while the answer was on its way is so in it. */
  async #ask(range) {
    const generation = this.#generation;
    const found = await this.#load(range);
    if (generation !== this.#generation) return null;
    return found.map((item) => (this.#removed.has(item.seq) ? { ...item, message: "", removed: this.#removed.get(item.seq) } : item));
  }

  async #busy(work) {
    this.#loading = true;
    this.#removed.clear();
    this.#failed = "";
    clearTimeout(this.#retry);
    this.#showTop();
    this.#log.setAttribute("aria-live", "off"); // old messages are not news
    try {
      await work();
    } catch (error) {
      const busy = error instanceof Busy;
      this.#failed = busy ? say("load_busy") : say("load_failed");
      this.#retry = setTimeout(() => this.#again(), busy ? Math.max(AGAIN, error.seconds * 1_000) : AGAIN);
    } finally {
      this.#loading = false;
      this.#showTop();
      this.#showPill();
      setTimeout(() => this.#log.setAttribute("aria-live", "polite"), 100);
    }
  }

  /** Loads what is missing, also where that failed. */
  #again() {
    clearTimeout(this.#retry);
    this.#failed = "";
    this.#showTop();
    this.#showPill();
    this.#more();
  }

  #append(messages, jumped = false) {
    if (jumped) {
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
    this.#renameDays();
  }

  #prepend(messages) {
    if (!messages.length) return;
    this.#keepPlace(() => {
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
    // From the other end: out of sight, so nothing moves.
    while (this.#items.length > MOST) {
      this.#items.pop();
      this.#log.lastElementChild.remove();
    }
    this.#showPill();
  }

  #cutTop(most) {
    const over = this.#items.length - most;
    if (over <= 0) return;
    this.#items.splice(0, over);
    for (let n = 0; n < over; n += 1) this.#log.firstElementChild.remove();
    this.#log.firstElementChild.replaceWith(render(this.#items[0], null, this.#viewer));
    this.#complete = false;
  }

  /** Changes above what is being read, without moving it. */
  #keepPlace(change) {
    const fromEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    change();
    this.#showTop();
    this.#scroller.scrollTop = this.#scroller.scrollHeight - fromEnd;
  }

  #toEnd() {
    this.#unseen = 0;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#showPill();
  }

  #showPill() {
    this.#pill.hidden = this.#stick;
    if (this.#stick) return;
    const later = this.#failed && !this.#attached;
    const words = later ? say("newer_later") : this.#unseen ? say("new_messages", { n: this.#unseen }) : say("newest");
    const label = this.#pill.querySelector("span");
    if (label.textContent !== words) label.textContent = words;
    this.#pill.classList.toggle("main", this.#unseen > 0);
  }

  #showTop() {
    const words = this.#failed
      ? this.#failed
      : !this.#welcomed
        ? say("opening")
        : this.#loading
          ? say("loading")
          : !this.#complete
            ? ""
            : this.#items.length
              ? say("beginning")
              : say("empty");
    this.#top.classList.toggle("empty", this.#complete && !this.#items.length);
    if (this.#top.dataset.words === words) return;
    this.#top.dataset.words = words;
    this.#top.replaceChildren(element("p", "", words));
    if (!this.#failed) return;
    const again = element("button", "button small", say("try_again"));
    again.type = "button";
    again.addEventListener("click", () => this.#again());
    this.#top.append(again);
  }

  #renameDays() {
    const today = dayNumber(new Date());
    if (today === this.#today) return;
    this.#today = today;
    for (const words of this.#log.querySelectorAll("[data-day]")) nameDay(words);
  }
}
