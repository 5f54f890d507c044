/* WebSocket for a state machine of client/: reports browser events to it and applies its effects. */

/** Time of the state machines: seconds since the page was loaded, on a monotonic clock. */
export const seconds = () => performance.now() / 1_000;

const OFFLINE_PING_MS = 5_000; // between pings while the browser is offline

export class Socket {
  #machine; #address; #apply; #socket = null; #timer = 0; #offlineTimer = 0; #effects = []; #performing = false;

  /**
   * @param options machine: a RoomClient, or a Connection without a room. address: the path, without query.
   *   apply(effect): applies effects other than connect, drop and send.
   */
  constructor({ machine, address, apply }) {
    this.#machine = machine;
    this.#address = address;
    this.#apply = apply;
    addEventListener("online", () => this.#wake());
    addEventListener("offline", () => this.#offline());
    document.addEventListener("visibilitychange", () => document.hidden || this.#wake());
    document.addEventListener("resume", () => this.#wake()); // the browser had frozen the tab
    addEventListener("pagehide", () => this.perform(machine.leave(seconds())));
    addEventListener("pageshow", (event) => event.persisted && this.connect());
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Connect immediately, without waiting for a scheduled attempt. */
  connect() {
    this.perform(this.#machine.connect(seconds()));
  }

  send(frame) {
    if (this.open) this.#socket.send(JSON.stringify(frame));
  }

  /** Apply effects in order, also those added meanwhile. */
  perform(effects) {
    this.#effects.push(...effects);
    if (this.#performing) return;
    this.#performing = true;
    try {
      while (this.#effects.length) this.#applyOne(this.#effects.shift());
    } finally {
      this.#performing = false;
      this.#schedule();
    }
  }

  #schedule() {
    clearTimeout(this.#timer);
    const { due } = this.#machine;
    if (due === null) return;
    const wait = Math.max(10, (due - seconds()) * 1_000);
    this.#timer = setTimeout(() => this.perform(this.#machine.tick(seconds())), wait);
  }

  #applyOne(effect) {
    if (effect.do === "connect") this.#connect(effect.query);
    else if (effect.do === "drop") this.#drop();
    else if (effect.do === "send") this.send(effect.frame);
    else this.#apply(effect);
  }

  #connect(query) {
    this.#drop();
    const url = new URL(this.#address + query, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.#socket = new WebSocket(url));
    socket.addEventListener("message", ({ data }) => {
      if (socket === this.#socket) this.perform(this.#machine.frame(parse(data), seconds()));
    });
    socket.addEventListener("close", ({ code, reason }) => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      this.perform(this.#machine.closed(code, reason, seconds()));
    });
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    if (socket && socket.readyState < WebSocket.CLOSING) socket.close(1000);
  }

  /** Check the connection, again and again while the browser is offline: the first answer may be from just before. */
  #offline() {
    clearTimeout(this.#offlineTimer);
    this.perform(this.#machine.probe(seconds()));
    this.#offlineTimer = setTimeout(() => navigator.onLine === false && this.#offline(), OFFLINE_PING_MS);
  }

  #wake() {
    this.perform(this.#machine.wake(seconds()));
  }
}

/** Parse JSON; return null if it is invalid. */
function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}
