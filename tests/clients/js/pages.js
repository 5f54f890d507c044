/* The pages' scripts outside a browser: loaded with what they import, before clocks that the test moves. */
import { readdirSync, readFileSync } from "node:fs";

export const APP = new URL("../../../app/channelbox/", import.meta.url);
const MAX_DELAY = 2 ** 31 - 1; // ms: what is longer is no delay at all, as in browsers

let loads = 0;

/** A script of the pages, with modules of its own. path: as in its address, behind /static/. */
export async function load(path) {
  loads += 1;
  return import(module(path));
}

/** The paths of all scripts, below app/channelbox. */
export function scripts() {
  return readdirSync(APP, { recursive: true }).filter((path) => path.endsWith(".js")).sort();
}

/** The address of a module whose imports are addresses too: Node does not know that these files are modules. */
function module(path) {
  const [folder] = path.split("/");
  const file = folder === "channelbox" || folder === "client" ? `static/${path}` : `${folder}/static/${path}`;
  const source = readFileSync(new URL(file, APP), "utf8").replace(/(from|import) "(\.[^"]+)"/g, (whole, word, relative) => {
    return `${word} "${module(new URL(relative, `file:///${path}`).pathname.slice(1))}"`;
  });
  return `data:text/javascript,${encodeURIComponent(source)}//${loads}`;
}

/** The browser's clocks and timers. `date` is the computer's clock, which people set; the other one nobody does. */
export class Clocks {
  date = Date.parse("2026-11-24T08:00:00Z");
  fired = 0; // timers
  #now = 0; #timers = new Map(); #last = 0;

  constructor() {
    const add = (every) => (act, ms = 0) => {
      const delay = ms > MAX_DELAY ? 1 : Math.max(1, ms);
      this.#timers.set((this.#last += 1), { act, at: this.#now + delay, every: every ? delay : 0 });
      return this.#last;
    };
    const remove = (id) => this.#timers.delete(id);
    const globals = { setTimeout: add(false), setInterval: add(true), clearTimeout: remove, clearInterval: remove };
    for (const [name, value] of Object.entries({ ...globals, performance: { now: () => this.#now } })) {
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
    Date.now = () => this.date;
  }

  /** Lets so many seconds pass. */
  pass(seconds) {
    const end = this.#now + seconds * 1_000;
    for (;;) {
      const [id, timer] = [...this.#timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (timer === undefined || timer.at > end) break;
      this.#go(timer.at);
      if (timer.every) timer.at += timer.every;
      else this.#timers.delete(id);
      this.fired += 1;
      timer.act();
    }
    this.#go(end);
  }

  /** Somebody sets the computer's clock, so many seconds forth or back. */
  set(seconds) {
    this.date += seconds * 1_000;
  }

  #go(to) {
    this.date += to - this.#now;
    this.#now = to;
  }
}

/** A stand-in for the document, the window and their elements: they keep what is written to them, and do nothing. */
export function page(words = {}) {
  const heard = {};
  const listen = (type, act) => (heard[type] ??= []).push(act);
  const any = () => ({
    dataset: {}, style: {}, hidden: true, textContent: "", value: "", append() {}, replaceChildren() {}, focus() {},
    setAttribute() {}, getAttribute: () => "", addEventListener: listen, querySelector: (name) => (parts[name] ??= any()),
    remove() {}, replaceWith() {}, classList: { add() {}, remove() {}, toggle() {}, contains: () => false },
  });
  const parts = { "#page": { textContent: JSON.stringify({ words, socket: "/ws/", limit: 4_000 }) } };
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key) };
  const document = { ...any(), hidden: false, body: any(), documentElement: { lang: "en" }, getElementById: (id) => parts[`#${id}`], createElement: any, createElementNS: any };
  const globals = { document, addEventListener: listen, localStorage: storage, sessionStorage: storage, matchMedia: () => ({}) };
  for (const [name, value] of Object.entries({ ...globals, location: { href: "https://chat.example/room/" }, navigator: {} })) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  return { document, parts, element: any, tell: (type, event = {}) => heard[type]?.forEach((act) => act(event)) };
}
