/* A page notices that its network is gone. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { RoomClient } from "../../../clients/js/client.js";
import { Clocks, load, page } from "./pages.js";

const WELCOME = { type: "welcome", seq: 0, you: "alice", resumed: false, may: [], limits: { message: 4000, rate: 20, burst: 60 } };

let clocks, sockets, world;

/** A server that answers pings while it can be reached. */
class Server extends EventTarget {
  static CLOSING = 2;
  static OPEN = 1;
  readyState = Server.OPEN;
  reached = true;

  constructor() {
    super();
    sockets.push(this);
  }

  send(text) {
    if (this.reached && JSON.parse(text).type === "ping") this.say({ type: "pong" });
  }

  say(frame) {
    this.dispatchEvent(Object.assign(new Event("message"), { data: JSON.stringify(frame) }));
  }

  close() {}
}

beforeEach(async () => {
  clocks = new Clocks();
  sockets = [];
  globalThis.WebSocket = Server;
  world = page();
  const { Socket } = await load("channelbox/socket.js");
  new Socket({ machine: new RoomClient({ random: () => 0.5 }), address: "/ws/", apply() {} }).connect();
  sockets[0].say(WELCOME);
});

test("a network that is gone just after an answer is noticed ten seconds later", () => {
  navigator.onLine = false;
  world.dispatch("offline"); // the answer to the ping is still received
  sockets[0].reached = false;
  clocks.pass(10.1);
  assert.equal(sockets.length, 1, "the server has as long to answer as otherwise");
  clocks.pass(1);
  assert.equal(sockets.length, 2);
});

test("a connection that works stays, although the browser says that it is offline", () => {
  navigator.onLine = false;
  world.dispatch("offline");
  world.dispatch("offline");
  clocks.pass(60);
  assert.equal(sockets.length, 1);
  assert.ok(clocks.fired < 40, `${clocks.fired} timers`);
});

test("nothing is asked any more once the browser is online again", () => {
  navigator.onLine = false;
  world.dispatch("offline");
  navigator.onLine = true;
  let pings = 0;
  sockets[0].send = () => (pings += 1);
  clocks.pass(20);
  assert.equal(pings, 0);
});
