/* The list of rooms: in the order of what happens in them, with how much one has not read.

   Asked for now and then while somebody looks, not pushed: a list that is half a minute old harms nobody, and who may see
   which room is decided where everything else of that kind is. What was read is kept in this browser. */
import { Busy, request } from "../channelbox/request.js";
import { when } from "../channelbox/times.js";
import { element, icon, page, say } from "../channelbox/words.js";

const EVERY = 30_000; // ms, more or less
const MOST = 99;
const MARKS = `channelbox:read:${page.person}`;
const EPOCHS = `channelbox:read-epochs:${page.person}`; // of the rooms when their marks were made

export class Rooms {
  #list; #row; #rooms = []; #timer = 0; #heard; #notice = element("p", "list-notice");

  /** list: the ul of `li[data-room]`; row: the template of one; heard(version): called with the server's. */
  constructor({ list, row, heard = () => {} }) {
    this.#list = list;
    this.#row = row;
    this.#heard = heard;
    this.#notice.setAttribute("role", "status");
    list.before(this.#notice);
    addEventListener("storage", ({ key }) => key === MARKS && this.#showUnread());
    document.addEventListener("visibilitychange", () => document.hidden || this.#ask());
    this.#ask();
  }

  /** Everything up to this number of a room has been seen. */
  read(room, seq, epoch) {
    this.#forget([{ name: room, epoch }]);
    const marks = kept(MARKS) ?? {};
    if ((marks[room] ?? -1) >= seq) return;
    keep(MARKS, { ...marks, [room]: seq });
    this.#showUnread();
  }

  /** Numbers of another epoch say nothing: the room was made anew, or a backup was restored. */
  #forget(rooms) {
    const epochs = kept(EPOCHS) ?? {};
    const changed = rooms.filter(({ name, epoch }) => epoch && epochs[name] !== epoch);
    if (!changed.length) return;
    const marks = kept(MARKS) ?? {};
    for (const { name, epoch } of changed) {
      if (epochs[name]) delete marks[name];
      epochs[name] = epoch;
    }
    keep(MARKS, marks);
    keep(EPOCHS, epochs);
  }

  async #ask() {
    clearTimeout(this.#timer);
    if (document.hidden) return;
    this.#again(EVERY);
    try {
      const answer = await request(page.list, { headers: { Accept: "application/json" } });
      this.#notice.textContent = "";
      if (!answer.ok) return; // the connection's state tells what is wrong
      const { rooms, version } = await answer.json();
      this.#rooms = rooms;
      this.#heard(version);
    } catch (error) {
      if (!(error instanceof Busy)) {
        this.#notice.textContent = "";
        return;
      }
      this.#again(Math.max(EVERY, error.seconds * 1_250)); // never before it may
      this.#notice.textContent = say("list_busy");
      return;
    }
    // Who comes for the first time has not missed all that was ever said.
    if (kept(MARKS) === null) keep(MARKS, Object.fromEntries(this.#rooms.map(({ name, seq }) => [name, seq])));
    this.#forget(this.#rooms);
    this.#show();
    this.#showUnread();
  }

  /** Asks again after about so many ms. */
  #again(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), ms * (0.8 + 0.4 * Math.random()));
  }

  #show() {
    const rows = new Map([...this.#list.children].map((row) => [row.dataset.room, row]));
    const names = new Set(this.#rooms.map(({ name }) => name));
    for (const [name, row] of rows) if (!names.has(name) && !row.querySelector("[aria-current]")) row.remove();
    for (const room of this.#rooms) {
      const row = rows.get(room.name) ?? this.#list.appendChild(this.#made(room));
      const time = row.querySelector("time");
      if (!time) continue;
      time.dateTime = room.changed_at;
      time.textContent = when(new Date(room.changed_at));
    }
    // Nothing moves under somebody's pointer or focus.
    if (this.#list.matches(":hover") || this.#list.contains(document.activeElement)) return;
    const place = new Map(this.#rooms.map(({ name }, index) => [name, index]));
    const now = [...this.#list.children];
    const sorted = [...now].sort((a, b) => (place.get(a.dataset.room) ?? -1) - (place.get(b.dataset.room) ?? -1));
    if (sorted.some((row, index) => row !== now[index])) this.#list.append(...sorted);
  }

  #made({ name, title, url, members_only: locked }) {
    const row = this.#row.content.firstElementChild.cloneNode(true);
    row.dataset.room = name;
    row.querySelector("a").href = url;
    row.querySelector("svg").replaceWith(icon(locked ? "lock" : "hash"));
    row.querySelector("[dir]").textContent = title || name;
    return row;
  }

  #showUnread() {
    const marks = kept(MARKS) ?? {};
    for (const { name, seq } of this.#rooms) {
      const badge = this.#list.querySelector(`[data-room="${name}"] .unread`);
      if (!badge) continue;
      const unread = seq - (marks[name] ?? 0);
      badge.hidden = unread <= 0;
      badge.textContent = unread > MOST ? `${MOST}+` : unread;
      badge.title = say("new_messages", { n: unread });
    }
  }
}

/** What is kept for each room; null before the first time. */
function kept(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return {};
  }
}

function keep(key, rooms) {
  try {
    localStorage.setItem(key, JSON.stringify(rooms));
  } catch {
    /* full or switched off: nothing is marked as read */
  }
}
