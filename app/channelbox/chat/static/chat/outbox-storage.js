/* Outbox items in localStorage, for each tab: they survive a reload, the person's other tabs see them, and what a tab
   left behind when it was closed or crashed is taken over by another one.

   A live tab holds two Web Locks: one for its name, and one for the items of the room that it shows; any tab may take
   over what it left behind in another room. Browsers have locks only on https and localhost; elsewhere tabs take over
   nothing. Taking items over twice does no harm: an id is stored once. */
import { newId } from "./id.js";

const TAB_KEY = "channelbox:tab";

/** Return this tab's name: the same after a reload, another one in a copy of the tab. */
async function claimName() {
  let name = savedName() ?? newId();
  while (navigator.locks && !(await hold(`${TAB_KEY}:${name}`, { ifAvailable: true }))) name = newId();
  try {
    sessionStorage.setItem(TAB_KEY, name);
  } catch {
    /* disabled: after a reload the tab has another name */
  }
  return name;
}

/** Hold a lock for as long as the page lives. Resolve to false with `ifAvailable` if it is held elsewhere. */
function hold(name, options) {
  return new Promise((resolve) => {
    navigator.locks.request(name, options, (lock) => {
      resolve(Boolean(lock));
      return lock && new Promise(() => {});
    });
  });
}

function savedName() {
  try {
    return sessionStorage.getItem(TAB_KEY);
  } catch {
    return null;
  }
}

const claimedName = claimName();

export class OutboxStorage {
  #prefix; #tab = "";

  /**
   * @param prefix of the keys, with room and person.
   * @param changed called when another tab's items have changed.
   */
  constructor(prefix, changed) {
    this.#prefix = prefix;
    addEventListener("storage", ({ key }) => (key === null || key.startsWith(`${prefix}:`)) && changed());
  }

  /** Return the items that this tab saved before a reload. */
  async open() {
    this.#tab = await claimedName;
    if (navigator.locks) await hold(this.#key(this.#tab), {}); // another tab may be taking over what this one left
    return read(this.#key(this.#tab));
  }

  save(items) {
    if (!this.#tab) return;
    try {
      if (items.length) localStorage.setItem(this.#key(this.#tab), JSON.stringify(items));
      else localStorage.removeItem(this.#key(this.#tab));
    } catch {
      /* full or disabled: the page still has them */
    }
  }

  /** Items of the other tabs. */
  get others() {
    return this.#otherTabs().flatMap((tab) => read(this.#key(tab)));
  }

  /** Hand the items that closed tabs left behind to take(items), which saves them. */
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
      const prefix = `${this.#prefix}:`;
      const tabs = Object.keys(localStorage).filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length));
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
    return []; // disabled, or not JSON
  }
}
