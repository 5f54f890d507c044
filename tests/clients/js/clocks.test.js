/* Changes of the computer's clock, by hand or by time synchronisation, neither stall a page nor make it spin. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, test } from "node:test";
import { RoomClient } from "../../../clients/js/client.js";
import { APP, Clocks, FakeSocket, load, page, scripts, WELCOME } from "./pages.js";

const HOUR = 3_600;
const SETTINGS = { "an hour back": -HOUR, "30 days back": -30 * 24 * HOUR, "an hour forward": HOUR };

let clocks, sockets, world;

beforeEach(() => {
  clocks = new Clocks();
  sockets = FakeSocket.sockets = [];
  globalThis.WebSocket = FakeSocket;
  world = page({
    dismiss: "Dismiss", edit: "Edit", elsewhere: "waits in another tab", later: "again in {s} s",
    now: "Now", reconnecting: "again in {s} s", reconnecting_now: "now", retry: "Try again", sending: "on its way",
    slow: "slow", typing_one: "{a} is typing", why_too_much: "Too much.",
  });
});

/**
 * Join a room with a client on a FakeSocket.
 * @param {function(object): void} [apply] Called with the effects that the socket does not apply itself.
 */
async function joined(apply = () => {}) {
  const { Socket } = await load("channelbox/socket.js");
  const client = new RoomClient({ random: () => 0.5 });
  const socket = new Socket({ machine: client, address: "/ws/", apply });
  socket.connect();
  sockets[0].receive(WELCOME);
  return { client, socket };
}

for (const [name, seconds] of Object.entries(SETTINGS)) {
  test(`${name}: the next connection attempt is on time`, async () => {
    await joined();
    sockets[0].end(1006); // the next attempt is half a second away
    clocks.set(seconds);
    clocks.pass(0.4);
    assert.equal(sockets.length, 1);
    clocks.pass(0.2);
    assert.equal(sockets.length, 2);
    assert.ok(clocks.fired < 5, `${clocks.fired} timers`);
  });

  test(`${name}: a silent connection is pinged, then given up`, async () => {
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

  test(`${name}: the seconds to the next attempt count down`, async () => {
    const { ConnectionStatus } = await load("channelbox/connection-status.js");
    const status = new ConnectionStatus({ notice: world.document, connect() {} });
    await joined((effect) => effect.do === "state" && effect.name === "waiting" && status.connection(effect));
    sockets[0].end(4008); // the next attempt is 15 seconds away
    clocks.set(seconds);
    clocks.pass(3);
    assert.equal(world.parts[".state-word"].textContent, "again in 12 s");
  });

  test(`${name}: people who stopped typing are no longer shown`, async () => {
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

  test(`${name}: typing is sent again every few seconds`, async () => {
    const { Composer } = await load("chat/composer.js");
    let sent = 0;
    new Composer({ form: world.document, send() {}, typing: () => (sent += 1) });
    const type = () => {
      world.parts.textarea.value = "a draft";
      world.dispatch("input");
    };
    type();
    clocks.set(seconds);
    type();
    assert.equal(sent, 1);
    clocks.pass(4);
    type();
    assert.equal(sent, 2);
  });

  test(`${name}: pending messages show the wait and slow answers`, async () => {
    const { Pending } = await load("chat/pending.js");
    const { client, socket } = await joined();
    const list = world.element();
    const pending = new Pending({ list });
    const status = () => (pending.show(client.outbox.items), world.parts[".pending-words"].textContent);
    socket.perform(client.say({ id: "1", text: "hi" }, performance.now() / 1_000));
    clocks.set(seconds);
    assert.equal(status(), "on its way");
    clocks.pass(6);
    assert.equal(status(), "slow");
    sockets[0].receive({ error: "Slow down.", code: "too_fast", id: "1", retry_after: 10 });
    clocks.set(seconds);
    clocks.pass(1);
    assert.equal(status(), "again in 10 s"); // 10 s plus a random tenth of it, less the second that passed
  });

  test(`${name}: a page of an older version reloads when idle`, async () => {
    await openOutdatedPage();
    clocks.pass(30);
    clocks.set(seconds);
    await passSeconds(20);
    assert.equal(reloads, 0);
    await passSeconds(100);
    assert.equal(reloads, 1);
  });
}

let reloads;

/** Create a page that learns of another version just after somebody used it. */
async function openOutdatedPage() {
  const { PageUpdate } = await load("channelbox/page-update.js");
  reloads = 0;
  globalThis.location.reload = () => (reloads += 1);
  globalThis.fetch = async () => new Response(null, { status: 200 });
  const update = new PageUpdate({ version: "1", canReload: () => true });
  world.dispatch("keydown");
  update.heard("2");
}

async function passSeconds(seconds) {
  for (let second = 0; second < seconds; second += 1) {
    clocks.pass(1);
    await new Promise(setImmediate);
  }
}

test("an outdated page reloads again only later, or with the clock set back", async () => {
  await openOutdatedPage();
  await passSeconds(130);
  assert.equal(reloads, 1);
  await openOutdatedPage(); // the first reload is still noted in sessionStorage
  await passSeconds(130);
  assert.equal(reloads, 0);
  clocks.set(-HOUR);
  await passSeconds(2);
  assert.equal(reloads, 1);
});

test("items of another tab are shown without their times", async () => {
  const { Pending } = await load("chat/pending.js");
  new Pending({ list: world.element() }).show([{ id: "1", kind: "message", text: "hi", state: "elsewhere", since: 1e12, until: 1e12 }]);
  assert.equal(world.parts[".pending-words"].textContent, "waits in another tab");
});

test("messages keep their order when the clock is set back", async () => {
  const { PersistentOutbox } = await load("chat/persistent-outbox.js");
  const client = new RoomClient();
  const outbox = new PersistentOutbox({ client, perform() {}, changed() {} });
  for (const text of ["first", "second", "third"]) {
    outbox.add(text);
    clocks.set(-HOUR);
  }
  client.outbox.restore([], ({ at }) => at, 0);
  assert.deepEqual(outbox.items.map(({ text }) => text), ["first", "second", "third"]);
});

test("only scripts that need the computer's clock read it", () => {
  const readers = scripts().filter((path) => readFileSync(new URL(path, APP), "utf8").includes("Date.now()"));
  assert.deepEqual(readers, [
    "chat/static/chat/persistent-outbox.js", // time of writing, by which other tabs and later loads sort
    "dashboard/static/dashboard/freshness.js", // besides the monotonic clock, which stops while the computer sleeps
    "static/channelbox/page-update.js", // time of the last reload
    "static/channelbox/request.js", // for a Retry-After with a date, if the response has no Date
  ]);
});
