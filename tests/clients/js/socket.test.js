/* A page notices that its network is gone. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { RoomClient } from "../../../clients/js/client.js";
import { Clocks, FakeSocket, load, page, WELCOME } from "./pages.js";

let clocks, sockets, world;

/** A server that answers pings while it can be reached. */
class Server extends FakeSocket {
  reached = true;

  send(text) {
    if (this.reached && JSON.parse(text).type === "ping") this.receive({ type: "pong" });
  }
}

beforeEach(async () => {
  clocks = new Clocks();
  sockets = FakeSocket.sockets = [];
  globalThis.WebSocket = Server;
  world = page();
  const { Socket } = await load("channelbox/socket.js");
  new Socket({ machine: new RoomClient({ random: () => 0.5 }), address: "/ws/", apply() {} }).connect();
  sockets[0].receive(WELCOME);
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
