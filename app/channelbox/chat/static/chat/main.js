/* The room's page: joins the connection, the timeline, the outbox and the rest. docs/protocol.md has the frames. */
import { page, say } from "../channelbox/words.js";
import { Close, Socket } from "../channelbox/socket.js";
import { ConnectionStatus } from "../channelbox/connection-status.js";
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
const SEEN = 500; // ms after which what is shown counts as read

const $ = (selector) => document.querySelector(selector);
const tabs = new BroadcastChannel("channelbox"); // who is signed in in one tab is so in all
let you = "";
let last = null; // the newest number that was heard; null: nothing yet
let goal = Infinity; // the number that is to be reached before the page is up to date
let begun = false; // what the room had when the page was opened is shown
let limits = null;
let gathered = [];
let flushing = 0;
let seeing = 0;

const timeline = new Timeline({ scroller: $(".scroller"), log: $(".log"), top: $(".top"), pill: $(".pill"), load });
const people = new People({ count: document.querySelectorAll(".here"), list: $(".people ul"), line: $(".typing") });
const rooms = new Rooms({ list: $(".rooms ul"), row: $("#room-row") });
const pending = new Pending({
  list: $(".pendings"),
  retry: (id) => outbox.retry(id),
  edit: (id) => composer.edit(outbox.take(id)),
  drop: (id) => outbox.take(id),
});
const outbox = new Outbox({
  send: (frame) => socket.send(frame),
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
const socket = new Socket({
  address: () => page.socket + (last === null ? "" : `?after=${last}`),
  changed(to) {
    if (to.name === "waiting" || to.name === "final") {
      flush();
      if (to.code === Close.TOO_BIG) outbox.refuseSent("too_big");
      outbox.suspend();
      people.away();
      goal = Infinity;
    }
    status.socket(to);
  },
  heard(frame) {
    if (frame.error) outbox.refused(frame);
    else frames[frame.type]?.(frame);
    // Kinds that this page does not know have their number too.
    if (frame.seq && frame.type !== "welcome" && frame.type !== "stored") last = Math.max(last, frame.seq);
    if (last >= goal) settle();
  },
});
const composer = new Composer({
  form: $(".composer"),
  send(text, kind) {
    outbox.add(text, kind);
    timeline.toNewest();
  },
  typing: () => status.name === "connected" && socket.send({ type: "typing" }),
});

const frames = {
  welcome(frame) {
    // Somebody else signed in, in another tab: everything on this page is the former's.
    if (you && frame.you !== you) location.reload();
    you = frame.you;
    tabs.postMessage("welcome");
    const may = frame.may ?? [];
    timeline.viewer = { you, mayRemove: may.includes("remove") };
    composer.mayAnnounce = may.includes("announce");
    limits = frame.limits;
    composer.limit = limits.message;
    outbox.open(`channelbox:pending:${frame.guest ? "guest" : "user"}:${you}:${page.room}`);
    if (last !== null && !frame.resumed) {
      // Too much was missed to be sent again, or the room began anew; what is older loads on scrolling up.
      flush();
      timeline.reset();
      last = null;
    }
    if (last !== null && frame.seq > last) status.show("catching_up", say("catching_up", { n: frame.seq - last }));
    last ??= frame.seq;
    goal = frame.seq;
  },
  message: gather,
  announcement: gather,
  deletion: gather,
  gap(frame) {
    // These are not sent again: the timeline begins anew behind them.
    flush();
    timeline.reset();
    last = Math.max(last, frame.to);
  },
  stored: ({ id }) => outbox.stored(id),
  presence: (frame) => people.here(frame),
  typing: ({ user }) => user !== you && people.typing(user),
};

function gather(event) {
  gathered.push(event);
  flushing ||= setTimeout(flush, FLUSH);
}

function flush() {
  clearTimeout(flushing);
  flushing = 0;
  const fresh = timeline.hear(gathered.filter(({ type }) => type !== "deletion"));
  for (const event of gathered) {
    if (event.type === "deletion") timeline.remove(event);
    outbox.stored(event.id);
  }
  for (const { user } of fresh) people.said(user);
  if (begun) unreadTitle.heard(fresh.filter(({ user }) => user !== you).length);
  gathered = [];
  seen();
}

/** What is in sight is read. */
function seen() {
  seeing ||= setTimeout(() => {
    seeing = 0;
    if (last !== null && !document.hidden && timeline.atEnd) rooms.read(page.room, last);
  }, SEEN);
}

/** Everything that was missed is here. */
function settle() {
  const seq = goal;
  goal = Infinity;
  status.show("connected");
  // The history of a first connection follows its welcome.
  setTimeout(() => {
    flush();
    begun = true;
    if (!socket.open) return;
    timeline.settled(seq);
    outbox.resume(limits);
  }, FLUSH);
}

tabs.addEventListener("message", () => status.name === "signed_out" && socket.connect());
document.addEventListener("visibilitychange", seen);
$(".scroller").addEventListener("scroll", seen, { passive: true });
addEventListener("beforeunload", (event) => outbox.items.length && event.preventDefault());
socket.connect();
