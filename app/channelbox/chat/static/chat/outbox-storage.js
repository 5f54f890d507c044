/* What waits to be sent, kept in localStorage for each tab: it survives a reload, the person's other tabs see it, and
   what a tab left behind when it was closed or crashed is taken over by another one.

   A tab that lives holds a Web Lock of its name, and one of what it keeps for the room that it shows: what it left
   behind in another room is anybody's. Browsers have locks only on https and on this machine; elsewhere each tab keeps
   to itself. Taking something over twice does no harm: an id is stored once. */
import { newId } from "./id.js";

const TAB = "channelbox:tab";

/** This tab's name: the same after a reload, another one in a copy of the tab. */
async function claim() {
  let name = remembered() ?? newId();
  while (navigator.locks && !(await hold(`${TAB}:${name}`, { ifAvailable: true }))) name = newId();
  try {
    sessionStorage.setItem(TAB, name);
  } catch {
    /* switched off: after a reload it is another tab */
  }
  return name;
}

/** Holds a lock for as long as this page lives; false when somebody else holds it and it is to be had `ifAvailable`. */
function hold(name, options) {
  return new Promise((told) => {
    navigator.locks.request(name, options, (lock) => {
      told(Boolean(lock));
      return lock && new Promise(() => {});
    });
  });
}

function remembered() {
  try {
    return sessionStorage.getItem(TAB);
  } catch {
    return null;
  }
}

const claimed = claim();

export class OutboxStorage {
  #prefix; #tab = "";

  /** prefix: of the keys, with the room and the person in it. changed(): another tab's items have changed. */
  constructor(prefix, changed) {
    this.#prefix = prefix;
    addEventListener("storage", ({ key }) => (key === null || key.startsWith(`${prefix}:`)) && changed());
  }

  /** What this tab had before a reload. */
  async open() {
    this.#tab = await claimed;
    if (navigator.locks) await hold(this.#key(this.#tab), {}); // another tab may be taking over what this one left
    return read(this.#key(this.#tab));
  }

  keep(items) {
    if (!this.#tab) return;
    try {
      if (items.length) localStorage.setItem(this.#key(this.#tab), JSON.stringify(items));
      else localStorage.removeItem(this.#key(this.#tab));
    } catch {
      /* full or switched off: the page itself still holds them */
    }
  }

  /** What waits in other tabs. */
  get others() {
    return this.#otherTabs().flatMap((tab) => read(this.#key(tab)));
  }

  /** Hands what tabs that are gone left behind to take(items), which keeps it. */
  async adopt(take) {
    if (!navigator.locks) return;
    for (const tab of this.#otherTabs()) {
      await navigator.locks.request(this.#key(tab), { ifAvailable: true }, (lock) => {
        const items = lock ? read(this.#key(tab)) : [];
        if (items.length) take(items);
        if (lock) localStorage.removeItem(this.#key(tab));
      });
    }
  }

  #key(tab) {
    return `${this.#prefix}:${tab}`;
  }

  #otherTabs() {
    try {
      const start = `${this.#prefix}:`;
      const tabs = Object.keys(localStorage).filter((key) => key.startsWith(start)).map((key) => key.slice(start.length));
      return tabs.filter((tab) => tab !== this.#tab);
    } catch {
      return [];
    }
  }
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "[]");
  } catch {
    return []; // switched off, or something else
  }
}
