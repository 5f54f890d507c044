/* Script of a room's page: connects the client, its WebSocket and the parts of the page (frames: docs/protocol.md). */
import { RoomClient } from "../client/client.js";
import { page, translate } from "../channelbox/ui.js";
import { Socket, seconds } from "../channelbox/socket.js";
import { ConnectionStatus } from "../channelbox/connection-status.js";
import { PageUpdate } from "../channelbox/page-update.js";
import * as unreadTitle from "./unread-title.js";
import { Composer } from "./composer.js";
import "./drawer.js";
import { load } from "./history.js";
import { MessageMenu } from "./menu.js";
import { Pending } from "./pending.js";
import { People } from "./people.js";
import { PersistentOutbox } from "./persistent-outbox.js";
import { Rooms } from "./rooms.js";
import { Timeline } from "./timeline.js";

const FLUSH_MS = 20; // for which events are collected before they are shown
const HISTORY_SECONDS = 2; // to wait for a first history before older messages are loaded: a server may send none
const READ_DELAY_MS = 500; // after which the messages in view count as read
const UNREAD_KEY = "channelbox:unread"; // in sessionStorage, across automatic reloads

const $ = (selector) => document.querySelector(selector);
const tabs = new BroadcastChannel("channelbox"); // tells tabs that are signed out about a sign-in
const isGuest = page.person === "guest";
const client = new RoomClient({ you: page.name, guest: isGuest });
const { room } = client;
let welcomed = false;
let replaced = false; // whether the page is reloading for another person who has signed in
let newestAtOpening = Infinity; // higher sequence numbers count as unread
let collected = [];
let flushTimer = 0;
let readTimer = 0;
let settleTimer = 0;

const timeline = new Timeline({
  scroller: $(".scroller"),
  log: $(".log"),
  top: $(".top"),
  pill: $(".pill"),
  load: (range) => load(range, room.epoch),
});
const people = new People({ count: document.querySelectorAll(".here"), list: $(".people ul"), line: $(".typing") });
const rooms = new Rooms({ list: $(".rooms ul"), row: $("#room-row") });
const pending = new Pending({
  list: $(".pendings"),
  retry: (id) => outbox.retry(id),
  edit: (id) => composer.edit(outbox.take(id)),
  drop: (id) => outbox.take(id),
});
const outbox = new PersistentOutbox({
  client,
  perform: (effects) => socket.perform(effects),
  changed() {
    const items = [...outbox.items, ...outbox.elsewhere.map((item) => ({ ...item, state: "elsewhere" }))];
    pending.show(items);
    timeline.removing(new Set(items.filter(({ kind, state }) => kind === "delete" && state !== "failed").map(({ seq }) => seq)));
  },
});
new MessageMenu({
  log: $(".log"),
  menu: $(".message-menu"),
  dialog: $(".confirm"),
  remove: (seq, text) => outbox.add(text, "delete", seq),
});
const status = new ConnectionStatus({ notice: $(".notice"), connect: () => socket.connect() });
const socket = new Socket({ machine: client, address: page.socket, apply: (effect) => effects[effect.do]?.(effect) });
const composer = new Composer({
  form: $(".composer"),
  send(text, kind) {
    outbox.add(text, kind);
    timeline.toNewest();
  },
  typing: () => client.state === "joined" && socket.send({ type: "typing" }),
});
const update = new PageUpdate({
  version: page.version ?? "",
  canReload: () => !outbox.items.length && composer.saved && timeline.atEnd && !$(".confirm").open && $(".message-menu").hidden,
  leave: () => sessionStorage.setItem(UNREAD_KEY, String(unreadTitle.count())),
});

const effects = {
  state(to) {
    if (to.name === "joined") return settle();
    if (to.name === "catching_up") return status.show("catching_up", translate("catching_up", { n: room.missed }));
    if (to.name === "waiting" || to.name === "stopped") {
      flush();
      people.unknown();
    }
    if (to.reason === "other_person") reloadForOtherPerson();
    if (to.name !== "idle") status.connection(to);
  },
  welcome() {
    welcomed = true;
    tabs.postMessage("welcome");
    timeline.viewer = { you: room.you, mayRemove: room.may.includes("remove") };
    timeline.floor = room.floor;
    composer.mayAnnounce = room.may.includes("announce");
    composer.limit = room.limits.message ?? page.limit;
    update.heard(room.version);
    if (newestAtOpening === Infinity) newestAtOpening = room.goal;
  },
  event({ event }) {
    collected.push(event);
    flushTimer ||= setTimeout(flush, FLUSH_MS);
  },
  forget() {
    // Too many events were missed, or the room was made anew. Older messages are loaded when the reader scrolls up.
    flush();
    timeline.reset();
    newestAtOpening = Math.min(newestAtOpening, room.goal);
  },
  stored: ({ id }) => outbox.stored(id),
  outbox_changed: () => outbox.save(),
  other({ frame }) {
    if (frame.type === "presence") people.presence(frame);
    else if (frame.type === "typing" && frame.user !== room.you) people.typing(frame.user);
  },
};

/**
 * Reload the page: another person signed in in another tab, and all that waits or is shown here is the previous one's.
 * A page without a welcome shows nothing yet. If its WebSocket and its pages were of two sessions, it would reload for
 * ever.
 */
function reloadForOtherPerson() {
  if (!welcomed) return;
  replaced = true;
  location.reload();
}

function flush() {
  clearTimeout(flushTimer);
  flushTimer = 0;
  const fresh = timeline.receive(collected.filter(({ type }) => type === "message" || type === "announcement"));
  for (const event of collected) {
    if (event.type === "deletion") timeline.remove(event);
    outbox.stored(event.id);
  }
  for (const { user } of fresh) people.stoppedTyping(user);
  unreadTitle.add(fresh.filter(({ user, seq }) => user !== room.you && seq > newestAtOpening).length);
  collected = [];
  markRead();
}

/** Mark the room as read if its newest message is in view, after a short delay. */
function markRead() {
  readTimer ||= setTimeout(() => {
    readTimer = 0;
    if (room.last !== null && !document.hidden && timeline.atEnd) rooms.read(page.room, room.last, room.epoch);
  }, READ_DELAY_MS);
}

/** Finish joining when all missed events are there. The history of a first connection comes after `joined`. */
function settle() {
  status.show("connected");
  clearTimeout(settleTimer);
  const until = seconds() + HISTORY_SECONDS;
  settleTimer = setTimeout(function check() {
    flush();
    if (!socket.open) return;
    if (room.last === null ? seconds() < until : room.last < room.goal) {
      settleTimer = setTimeout(check, FLUSH_MS);
      return;
    }
    timeline.settled(room.goal);
    outbox.adopt();
  }, FLUSH_MS);
}

try {
  unreadTitle.restore(Number(sessionStorage.getItem(UNREAD_KEY)));
  sessionStorage.removeItem(UNREAD_KEY);
} catch {
  /* storage is disabled */
}
tabs.addEventListener("message", () => status.name === "signed_out" && socket.connect());
document.addEventListener("visibilitychange", markRead);
$(".scroller").addEventListener("scroll", markRead, { passive: true });
addEventListener("beforeunload", (event) => outbox.items.length && !replaced && event.preventDefault());
outbox.open(`channelbox:pending:${isGuest ? "guest" : "user"}:${page.name}:${page.room}`);
socket.connect();
