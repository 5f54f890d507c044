/* The pages' scripts outside a browser, loaded with their dependencies, and clocks that the test moves. */
import { readdirSync, readFileSync } from "node:fs";

export const APP = new URL("../../../app/channelbox/", import.meta.url);
const MAX_DELAY = 2 ** 31 - 1; // ms; longer delays count as none, as in browsers

let loads = 0;

/** Load a script of the pages with fresh modules. `path` is that of its address, after /static/. */
export async function load(path) {
  loads += 1;
  return import(module(path));
}

/** Return the paths of all scripts, relative to app/channelbox. */
export function scripts() {
  return readdirSync(APP, { recursive: true }).filter((path) => path.endsWith(".js")).sort();
}

/**
 * Return a data URL of a module in which relative imports are data URLs too, because Node would not treat these
 * files as modules.
 */
function module(path) {
  const [folder] = path.split("/");
  const file = folder === "channelbox" || folder === "client" ? `static/${path}` : `${folder}/static/${path}`;
  const source = readFileSync(new URL(file, APP), "utf8").replace(/(from|import) "(\.[^"]+)"/g, (whole, word, relative) => {
    return `${word} "${module(new URL(relative, `file:///${path}`).pathname.slice(1))}"`;
  });
  return `data:text/javascript,${encodeURIComponent(source)}//${loads}`;
}

/** A browser's clocks and timers: the computer's clock (`date`), which can be set, and a monotonic clock. */
export class Clocks {
  date = Date.parse("2026-11-24T08:00:00Z");
  fired = 0; // number of timers that have fired
  #now = 0; #timers = new Map(); #last = 0;

  constructor() {
    const add = (repeat) => (callback, ms = 0) => {
      const delay = ms > MAX_DELAY ? 1 : Math.max(1, ms);
      this.#timers.set((this.#last += 1), { callback, at: this.#now + delay, interval: repeat ? delay : 0 });
      return this.#last;
    };
    const remove = (id) => this.#timers.delete(id);
    const globals = { setTimeout: add(false), setInterval: add(true), clearTimeout: remove, clearInterval: remove };
    for (const [name, value] of Object.entries({ ...globals, performance: { now: () => this.#now } })) {
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
    Date.now = () => this.date;
  }

  /** Let this many seconds pass. */
  pass(seconds) {
    const end = this.#now + seconds * 1_000;
    for (;;) {
      const [id, timer] = [...this.#timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (timer === undefined || timer.at > end) break;
      this.#advance(timer.at);
      if (timer.interval) timer.at += timer.interval;
      else this.#timers.delete(id);
      this.fired += 1;
      timer.callback();
    }
    this.#advance(end);
  }

  /** Set the computer's clock forward by this many seconds, or back if negative. */
  set(seconds) {
    this.date += seconds * 1_000;
  }

  #advance(to) {
    this.date += to - this.#now;
    this.#now = to;
  }
}

export const WELCOME = { type: "welcome", seq: 0, you: "alice", resumed: false, may: [], limits: { message: 4000, rate: 20, burst: 60 } };

/** A WebSocket to a server that the test plays. The test empties `sockets`, to which each is added. */
export class FakeSocket extends EventTarget {
  static CLOSING = 2;
  static OPEN = 1;
  static sockets = [];
  readyState = FakeSocket.OPEN;
  sent = [];

  constructor() {
    super();
    FakeSocket.sockets.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {}

  receive(frame) {
    this.dispatchEvent(Object.assign(new Event("message"), { data: JSON.stringify(frame) }));
  }

  end(code) {
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason: "" }));
  }
}

/**
 * Install a stand-in for the document, the window and their elements. It keeps what is written to it and does nothing.
 * @param {object} [words] UI strings of the page, by key.
 */
export function page(words = {}) {
  const listeners = {};
  const listen = (type, listener) => (listeners[type] ??= []).push(listener);
  const fakeElement = () => ({
    dataset: {}, style: {}, hidden: true, textContent: "", value: "", append() {}, replaceChildren() {}, focus() {},
    setAttribute() {}, getAttribute: () => "", addEventListener: listen,
    querySelector: (name) => (parts[name] ??= fakeElement()), remove() {}, replaceWith() {},
    classList: { add() {}, remove() {}, toggle() {}, contains: () => false },
  });
  const parts = { "#page": { textContent: JSON.stringify({ words, socket: "/ws/", limit: 4_000 }) } };
  const stored = new Map();
  const storage = {
    getItem: (key) => stored.get(key) ?? null,
    setItem: (key, value) => stored.set(key, value),
    removeItem: (key) => stored.delete(key),
  };
  const document = {
    ...fakeElement(), hidden: false, body: fakeElement(), documentElement: { lang: "en" },
    getElementById: (id) => parts[`#${id}`], createElement: fakeElement, createElementNS: fakeElement,
  };
  const globals = { document, addEventListener: listen, localStorage: storage, sessionStorage: storage, matchMedia: () => ({}) };
  for (const [name, value] of Object.entries({ ...globals, location: { href: "https://chat.example/room/" }, navigator: {} })) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  const dispatch = (type, event = {}) => listeners[type]?.forEach((listener) => listener(event));
  return { document, parts, element: fakeElement, dispatch };
}
