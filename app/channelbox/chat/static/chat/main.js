/* The room's page: joins the machine, its connection, the timeline, the outbox and the rest. docs/protocol.md has the frames. */
import { RoomClient } from "../client/client.js";
import { page, say } from "../channelbox/words.js";
import { Socket, seconds } from "../channelbox/socket.js";
import { ConnectionStatus } from "../channelbox/connection-status.js";
import { PageUpdate } from "../channelbox/page-update.js";
import * as unreadTitle from "./unread-title.js";
import { Composer } from "./composer.js";
import "./drawer.js";
import { load } from "./history.js";
import { MessageMenu } from "./menu.js";
import { Outbox } from "./outbox.js";
import { Pending } from "./pending.js";
import { People } from "./people.js";
import { Rooms } from "./rooms.js";
import { Timeline } from "./timeline.js";

const FLUSH = 20; // ms in which messages are gathered before they are shown
const HISTORY_SECONDS = 2; // for a first history to begin, before older messages are asked for: a server may send none
const SEEN = 500; // ms after which what is shown counts as read
const UNREAD = "channelbox:unread"; // in sessionStorage, over a reload of our own

const $ = (selector) => document.querySelector(selector);
const tabs = new BroadcastChannel("channelbox"); // who is signed in in one tab is so in all
const isGuest = page.person === "guest";
const client = new RoomClient({ you: page.name, guest: isGuest });
const { room } = client;
let welcomed = false;
let replaced = false; // by the page of whoever signed in next
let opening = Infinity; // the newest number when the page was opened: what is newer is news
let gathered = [];
let flushing = 0;
let seeing = 0;
let settling = 0;

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
const outbox = new Outbox({
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
const status = new ConnectionStatus({ notice: $(".notice"), now: () => socket.connect() });
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
  quiet: () => !outbox.items.length && composer.safe && timeline.atEnd && !$(".confirm").open && $(".message-menu").hidden,
  leave: () => sessionStorage.setItem(UNREAD, unreadTitle.count()),
});

const effects = {
  state(to) {
    if (to.name === "joined") return settle();
    if (to.name === "catching_up") return status.show("catching_up", say("catching_up", { n: room.missed }));
    if (to.name === "waiting" || to.name === "stopped") {
      flush();
      people.away();
    }
    if (to.reason === "other_person") giveWay();
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
    if (opening === Infinity) opening = room.goal;
  },
  event({ event }) {
    gathered.push(event);
    flushing ||= setTimeout(flush, FLUSH);
  },
  forget() {
    // Too much was missed to be sent again, or the room began anew; what is older loads on scrolling up.
    flush();
    timeline.reset();
    opening = Math.min(opening, room.goal);
  },
  stored: ({ id }) => outbox.stored(id),
  outbox_changed: () => outbox.keep(),
  other({ frame }) {
    if (frame.type === "presence") people.here(frame);
    else if (frame.type === "typing" && frame.user !== room.you) people.typing(frame.user);
  },
};

/**
 * Somebody else signed in, in another tab: all that waits to be sent, and all that this page shows, is the former's.
 * A page that was never theirs shows nothing yet; should its socket and its pages be of two sessions, it would load itself
 * for ever.
 */
function giveWay() {
  if (!welcomed) return;
  replaced = true;
  location.reload();
}

function flush() {
  clearTimeout(flushing);
  flushing = 0;
  const fresh = timeline.hear(gathered.filter(({ type }) => type === "message" || type === "announcement"));
  for (const event of gathered) {
    if (event.type === "deletion") timeline.remove(event);
    outbox.stored(event.id);
  }
  for (const { user } of fresh) people.said(user);
  unreadTitle.heard(fresh.filter(({ user, seq }) => user !== room.you && seq > opening).length);
  gathered = [];
  seen();
}

/** What is in sight is read. */
function seen() {
  seeing ||= setTimeout(() => {
    seeing = 0;
    if (room.last !== null && !document.hidden && timeline.atEnd) rooms.read(page.room, room.last, room.epoch);
  }, SEEN);
}

/** Everything that was missed is here, but for the history of a first connection: that follows its welcome. */
function settle() {
  status.show("connected");
  clearTimeout(settling);
  const until = seconds() + HISTORY_SECONDS;
  settling = setTimeout(function look() {
    flush();
    if (!socket.open) return;
    if (room.last === null ? seconds() < until : room.last < room.goal) {
      settling = setTimeout(look, FLUSH);
      return;
    }
    timeline.settled(room.goal);
    outbox.adopt();
  }, FLUSH);
}

try {
  unreadTitle.restore(Number(sessionStorage.getItem(UNREAD)));
  sessionStorage.removeItem(UNREAD);
} catch {
  /* switched off */
}
tabs.addEventListener("message", () => status.name === "signed_out" && socket.connect());
document.addEventListener("visibilitychange", seen);
$(".scroller").addEventListener("scroll", seen, { passive: true });
addEventListener("beforeunload", (event) => outbox.items.length && !replaced && event.preventDefault());
outbox.open(`channelbox:pending:${isGuest ? "guest" : "user"}:${page.name}:${page.room}`);
socket.connect();
