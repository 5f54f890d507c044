/* List of rooms, ordered by activity, with unread counts.

   Polled while the page is visible, not pushed: a list that is half a minute old does no harm, and access is checked in
   the same place as all other access. Read positions are kept in this browser. */
import { Busy, request } from "../channelbox/request.js";
import { shortTime } from "../channelbox/times.js";
import { element, icon, page, translate } from "../channelbox/ui.js";

const POLL_INTERVAL_MS = 30_000; // before jitter
const MAX_UNREAD = 99;
const MARKS_KEY = `channelbox:read:${page.person}`; // numbers up to which rooms were read
const EPOCHS_KEY = `channelbox:read-epochs:${page.person}`; // the epochs that those numbers belong to

export class Rooms {
  #list; #row; #rooms = []; #timer = 0; #onVersion; #notice = element("p", "list-notice");

  /** @param options list: ul of `li[data-room]`; row: template of one; onVersion(version): called with the server's. */
  constructor({ list, row, onVersion = (_) => {} }) {
    this.#list = list;
    this.#row = row;
    this.#onVersion = onVersion;
    this.#notice.setAttribute("role", "status");
    list.before(this.#notice);
    addEventListener("storage", ({ key }) => key === MARKS_KEY && this.#showUnread());
    document.addEventListener("visibilitychange", () => document.hidden || this.#poll());
    this.#poll();
  }

  /** Mark a room as read up to this sequence number. */
  read(room, seq, epoch) {
    this.#dropMarks([{ name: room, epoch }]);
    const marks = load(MARKS_KEY) ?? {};
    if ((marks[room] ?? -1) >= seq) return;
    save(MARKS_KEY, { ...marks, [room]: seq });
    this.#showUnread();
  }

  /** Drop the marks of another epoch: the room was made anew, or a backup was restored. */
  #dropMarks(rooms) {
    const epochs = load(EPOCHS_KEY) ?? {};
    const changed = rooms.filter(({ name, epoch }) => epoch && epochs[name] !== epoch);
    if (!changed.length) return;
    const marks = load(MARKS_KEY) ?? {};
    for (const { name, epoch } of changed) {
      if (epochs[name]) delete marks[name];
      epochs[name] = epoch;
    }
    save(MARKS_KEY, marks);
    save(EPOCHS_KEY, epochs);
  }

  async #poll() {
    clearTimeout(this.#timer);
    if (document.hidden) return;
    this.#schedule(POLL_INTERVAL_MS);
    try {
      const response = await request(page.list, { headers: { Accept: "application/json" } });
      this.#notice.textContent = "";
      if (!response.ok) return; // the connection status shows what is wrong
      const { rooms, version } = await response.json();
      this.#rooms = rooms;
      this.#onVersion(version);
    } catch (error) {
      if (!(error instanceof Busy)) {
        this.#notice.textContent = "";
        return;
      }
      this.#schedule(Math.max(POLL_INTERVAL_MS, error.seconds * 1_250)); // never earlier than allowed
      this.#notice.textContent = translate("list_busy");
      return;
    }
    // On the first visit everything counts as read.
    if (load(MARKS_KEY) === null) save(MARKS_KEY, Object.fromEntries(this.#rooms.map(({ name, seq }) => [name, seq])));
    this.#dropMarks(this.#rooms);
    this.#show();
    this.#showUnread();
  }

  /** Poll again after about this many ms. */
  #schedule(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#poll(), ms * (0.8 + 0.4 * Math.random()));
  }

  #show() {
    const rows = new Map([...this.#list.children].map((row) => [row.dataset.room, row]));
    const names = new Set(this.#rooms.map(({ name }) => name));
    for (const [name, row] of rows) if (!names.has(name) && !row.querySelector("[aria-current]")) row.remove();
    for (const room of this.#rooms) {
      const row = rows.get(room.name) ?? this.#list.appendChild(this.#createRow(room));
      const time = row.querySelector("time");
      if (!time) continue;
      time.dateTime = room.changed_at;
      time.textContent = shortTime(new Date(room.changed_at));
    }
    // Do not move rows under the pointer or the focus.
    if (this.#list.matches(":hover") || this.#list.contains(document.activeElement)) return;
    const place = new Map(this.#rooms.map(({ name }, index) => [name, index]));
    const now = [...this.#list.children];
    const sorted = [...now].sort((a, b) => (place.get(a.dataset.room) ?? -1) - (place.get(b.dataset.room) ?? -1));
    if (sorted.some((row, index) => row !== now[index])) this.#list.append(...sorted);
  }

  #createRow({ name, title, url, members_only: locked }) {
    const row = this.#row.content.firstElementChild.cloneNode(true);
    row.dataset.room = name;
    row.querySelector("a").href = url;
    row.querySelector("svg").replaceWith(icon(locked ? "lock" : "hash"));
    row.querySelector("[dir]").textContent = title || name;
    return row;
  }

  #showUnread() {
    const marks = load(MARKS_KEY) ?? {};
    for (const { name, seq } of this.#rooms) {
      const badge = this.#list.querySelector(`[data-room="${name}"] .unread`);
      if (!badge) continue;
      const unread = seq - (marks[name] ?? 0);
      badge.hidden = unread <= 0;
      badge.textContent = unread > MAX_UNREAD ? `${MAX_UNREAD}+` : unread;
      badge.title = translate("new_messages", { n: unread });
    }
  }
}

/** Return what is saved for each room; null before the first time. */
function load(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return {};
  }
}

function save(key, rooms) {
  try {
    localStorage.setItem(key, JSON.stringify(rooms));
  } catch {
    /* full or disabled: nothing is marked as read */
  }
}
