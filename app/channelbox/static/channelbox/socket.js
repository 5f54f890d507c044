/* A WebSocket that comes back by itself: with a growing, spread delay, at once when the network or the reader returns,
   and also when the other side has fallen silent without closing. */

const GIVE_UP_OPENING = 10_000; // ms from the attempt to the first frame
const SETTLED = 10_000; // ms from the first frame, after which the delays start small again
const LONGEST = 15_000; // ms

export const Close = { TOO_BIG: 1009, RESTART: 1012, TRY_LATER: 1013, ROOM_FULL: 4000, SIGN_IN: 4001, NOT_ALLOWED: 4003, TOO_MUCH: 4008 };

/* Those that only the reader can mend: no attempts by themselves. */
const FINAL = new Set([Close.SIGN_IN, Close.NOT_ALLOWED]);

/** How long to wait before attempt n (0, 1, ...) after a close with this code, in ms. Spread, for thousands come at once. */
export function delay(code, attempt, random = Math.random()) {
  const grown = Math.min(LONGEST, 500 * 2 ** attempt);
  switch (code) {
    case Close.RESTART:
      return attempt ? grown * (0.5 + random) : 200 + random * 2_300;
    case Close.TRY_LATER:
      return Math.min(LONGEST, 3_000 * 2 ** attempt) * (0.5 + random);
    case Close.ROOM_FULL:
    case Close.TOO_MUCH:
      return 10_000 + random * 10_000;
    default:
      return grown * (0.5 + random);
  }
}

export class Socket {
  #address; #heard; #changed; #silence;
  #socket = null; #timer = 0; #attempt = 0; #opened = 0; #firstFrame = 0; #lastFrame = 0; #asked = 0; #stopped = false;

  /**
   * address(): the path to connect to, asked at each attempt. heard(frame): a JSON frame. changed(state): an object with
   * `name` ("connecting", "open", "waiting", "final"), and `code` and `reason` of the last close and `until` (Date.now()
   * of the next attempt) where there are such. silence: ms without a frame after which the other side is asked for one; as long
   * again without an answer, and the connection is given up.
   */
  constructor({ address, heard, changed, silence = 25_000 }) {
    this.#address = address;
    this.#heard = heard;
    this.#changed = changed;
    this.#silence = silence;
    addEventListener("online", () => this.#returned());
    addEventListener("offline", () => this.#probe());
    document.addEventListener("visibilitychange", () => document.hidden || this.#returned());
    document.addEventListener("resume", () => this.#returned()); // the browser had put the tab to sleep
    addEventListener("pagehide", () => this.#leave());
    addEventListener("pageshow", (event) => event.persisted && this.connect());
    setInterval(() => this.#watch(), 1_000);
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Connects now, whatever was waited for. */
  connect() {
    this.#stopped = false;
    clearTimeout(this.#timer);
    this.#drop();
    const url = new URL(this.#address(), location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.#socket = new WebSocket(url));
    this.#opened = this.#lastFrame = Date.now();
    this.#asked = this.#firstFrame = 0;
    this.#changed({ name: "connecting" });
    socket.addEventListener("message", ({ data }) => {
      if (socket !== this.#socket) return;
      this.#lastFrame = Date.now();
      this.#firstFrame ||= this.#lastFrame;
      this.#asked = 0;
      this.#heard(JSON.parse(data));
    });
    socket.addEventListener("open", () => socket === this.#socket && this.#changed({ name: "open" }));
    socket.addEventListener("close", ({ code, reason }) => socket === this.#socket && this.#lost(code, reason));
  }

  /** Whether it was handed to the connection; that says nothing of its arrival. */
  send(frame) {
    if (!this.open) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #lost(code, reason = "") {
    this.#drop();
    if (this.#stopped) return;
    if (FINAL.has(code)) {
      this.#changed({ name: "final", code, reason });
      return;
    }
    if (this.#firstFrame && Date.now() - this.#firstFrame > SETTLED) this.#attempt = 0;
    const wait = delay(code, this.#attempt++);
    this.#timer = setTimeout(() => this.connect(), wait);
    this.#changed({ name: "waiting", code, reason, until: Date.now() + wait });
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    if (socket && socket.readyState < WebSocket.CLOSING) socket.close(1000);
  }

  #leave() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#drop();
  }

  #returned() {
    if (this.#stopped) return;
    if (!this.#socket) this.connect();
    else this.#probe();
  }

  /** Asks for a sign of life soon: the network may have changed beneath the connection. */
  #probe() {
    if (this.open && !this.#asked) this.#ask();
  }

  #ask() {
    this.#asked = Date.now();
    this.send({ type: "ping" });
  }

  #watch() {
    if (!this.#socket) return;
    const now = Date.now();
    if (!this.#firstFrame) {
      if (now - this.#opened > GIVE_UP_OPENING) this.#lost(0);
    } else if (this.#asked && now - this.#asked > Math.min(this.#silence, 5_000)) {
      this.#lost(0);
    } else if (!this.#asked && now - this.#lastFrame > this.#silence) {
      this.#ask();
    }
  }
}
