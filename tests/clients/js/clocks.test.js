/* The computer's clock is set, by hand or by the network: nothing in a page stands still, and nothing spins. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, test } from "node:test";
import { RoomClient } from "../../../clients/js/client.js";
import { APP, Clocks, load, page, scripts } from "./pages.js";

const HOUR = 3_600;
const SETTINGS = { "an hour back": -HOUR, "30 days back": -30 * 24 * HOUR, "an hour forth": HOUR };
const WELCOME = { type: "welcome", seq: 0, you: "alice", resumed: false, may: [], limits: { message: 4000, rate: 20, burst: 60 } };

let clocks, sockets, world;

class FakeSocket extends EventTarget {
  static CLOSING = 2;
  static OPEN = 1;
  readyState = FakeSocket.OPEN;
  sent = [];

  constructor() {
    super();
    sockets.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {}

  hear(frame) {
    this.dispatchEvent(Object.assign(new Event("message"), { data: JSON.stringify(frame) }));
  }

  end(code) {
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason: "" }));
  }
}

beforeEach(() => {
  clocks = new Clocks();
  sockets = [];
  globalThis.WebSocket = FakeSocket;
  world = page({
    dismiss: "Dismiss", edit: "Edit", elsewhere: "waits in another tab", later: "again in {s} s",
    now: "Now", reconnecting: "again in {s} s", reconnecting_now: "now", retry: "Try again", sending: "on its way",
    slow: "slow", typing_one: "{a} is typing", why_too_much: "Too much.",
  });
});

/** A page that is in a room. apply(effect): what it shows. */
async function joined(apply = () => {}) {
  const { Socket } = await load("channelbox/socket.js");
  const client = new RoomClient({ random: () => 0.5 });
  const socket = new Socket({ machine: client, address: "/ws/", apply });
  socket.connect();
  sockets[0].hear(WELCOME);
  return { client, socket };
}

for (const [name, seconds] of Object.entries(SETTINGS)) {
  test(`${name}: the next attempt comes in its time`, async () => {
    await joined();
    sockets[0].end(1006); // the next attempt is half a second away
    clocks.set(seconds);
    clocks.pass(0.4);
    assert.equal(sockets.length, 1);
    clocks.pass(0.2);
    assert.equal(sockets.length, 2);
    assert.ok(clocks.fired < 5, `${clocks.fired} timers`);
  });

  test(`${name}: a connection that is silent is looked at, and given up`, async () => {
    await joined();
    clocks.set(seconds);
    clocks.pass(24);
    assert.deepEqual(sockets[0].sent, []);
    clocks.pass(2);
    assert.deepEqual(sockets[0].sent, [{ type: "ping" }]);
    clocks.pass(10);
    assert.equal(sockets.length, 2);
    assert.ok(clocks.fired < 10, `${clocks.fired} timers`);
  });

  test(`${name}: the seconds to the next attempt are counted down`, async () => {
    const { ConnectionStatus } = await load("channelbox/connection-status.js");
    const status = new ConnectionStatus({ notice: world.document, now() {} });
    await joined((effect) => effect.do === "state" && effect.name === "waiting" && status.connection(effect));
    sockets[0].end(4008); // the next attempt is 15 seconds away
    clocks.set(seconds);
    clocks.pass(3);
    assert.equal(world.parts[".state-word"].textContent, "again in 12 s");
  });

  test(`${name}: whoever stopped writing is shown no longer`, async () => {
    const { People } = await load("chat/people.js");
    const line = world.element();
    const people = new People({ count: [], list: world.element(), line });
    people.typing("bob");
    clocks.set(seconds);
    clocks.pass(4);
    assert.equal(line.textContent, "bob is typing");
    clocks.pass(2);
    assert.equal(line.textContent, "");
  });

  test(`${name}: the others see again and again that somebody writes`, async () => {
    const { Composer } = await load("chat/composer.js");
    let told = 0;
    new Composer({ form: world.document, send() {}, typing: () => (told += 1) });
    const write = () => {
      world.parts.textarea.value = "a draft";
      world.tell("input");
    };
    write();
    clocks.set(seconds);
    write();
    assert.equal(told, 1);
    clocks.pass(4);
    write();
    assert.equal(told, 2);
  });

  test(`${name}: what waits says how long, and that it takes long`, async () => {
    const { Pending } = await load("chat/pending.js");
    const { client, socket } = await joined();
    const list = world.element();
    const pending = new Pending({ list });
    const words = () => (pending.show(client.outbox.items), world.parts[".pending-words"].textContent);
    socket.perform(client.say({ id: "1", text: "hi" }, performance.now() / 1_000));
    clocks.set(seconds);
    assert.equal(words(), "on its way");
    clocks.pass(6);
    assert.equal(words(), "slow");
    sockets[0].hear({ error: "Slow down.", code: "too_fast", id: "1", retry_after: 10 });
    clocks.set(seconds);
    clocks.pass(1);
    assert.equal(words(), "again in 10 s"); // 10 s and a tenth of it at random, less one
  });

  test(`${name}: a page of an older version is loaded anew when nobody uses it`, async () => {
    await update();
    clocks.pass(30);
    clocks.set(seconds);
    await untilQuiet(20);
    assert.equal(reloads, 0);
    await untilQuiet(100);
    assert.equal(reloads, 1);
  });
}

let reloads;

/** A page that hears of another version, just after somebody used it. */
async function update() {
  const { PageUpdate } = await load("channelbox/page-update.js");
  reloads = 0;
  location.reload = () => (reloads += 1);
  globalThis.fetch = async () => new Response(null, { status: 200 });
  const page = new PageUpdate({ version: "1", quiet: () => true });
  world.tell("keydown");
  page.heard("2");
}

async function untilQuiet(seconds) {
  for (let second = 0; second < seconds; second += 1) {
    clocks.pass(1);
    await new Promise(setImmediate);
  }
}

test("a page that was loaded anew and is of the older version still is loaded again later, also with the clock set back", async () => {
  await update();
  await untilQuiet(130);
  assert.equal(reloads, 1);
  await update(); // what was noted is still there
  await untilQuiet(130);
  assert.equal(reloads, 0);
  clocks.set(-HOUR);
  await untilQuiet(2);
  assert.equal(reloads, 1);
});

test("what another tab wants to send has that tab's times, which say nothing here", async () => {
  const { Pending } = await load("chat/pending.js");
  new Pending({ list: world.element() }).show([{ id: "1", kind: "message", text: "hi", state: "elsewhere", since: 1e12, until: 1e12 }]);
  assert.equal(world.parts[".pending-words"].textContent, "waits in another tab");
});

test("what is written after the clock was set back stays behind what was written before", async () => {
  const { Outbox } = await load("chat/outbox.js");
  const client = new RoomClient();
  const outbox = new Outbox({ client, perform() {}, changed() {} });
  for (const text of ["first", "second", "third"]) {
    outbox.add(text);
    clocks.set(-HOUR);
  }
  client.outbox.restore([], ({ at }) => at, 0);
  assert.deepEqual(outbox.items.map(({ text }) => text), ["first", "second", "third"]);
});

test("the computer's clock is asked for what is kept over a reload, or comes from elsewhere, and for nothing else", () => {
  const asking = scripts().filter((path) => readFileSync(new URL(path, APP), "utf8").includes("Date.now()"));
  assert.deepEqual(asking, [
    "chat/static/chat/outbox.js", // when it was written: other tabs sort by it
    "dashboard/static/dashboard/freshness.js", // beside the other clock, which stands still while the computer sleeps
    "static/channelbox/page-update.js", // when the page was loaded anew
    "static/channelbox/request.js", // a Retry-After that is a date, where no Date came with it
  ]);
});
