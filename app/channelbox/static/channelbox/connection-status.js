/* The connection, always in sight: a dot and a word in the bar, a sentence with what one can do where it is needed. */
import { seconds } from "./socket.js";
import { element, icon, page, say } from "./words.js";
import { Close } from "../client/connection.js";

const PATIENCE = 1_000; // ms before a sentence joins the word: most interruptions are over by then

const REASONS = { [Close.RESTART]: "why_restart", [Close.TRY_LATER]: "why_later", [Close.ROOM_FULL]: "why_full", [Close.TOO_MUCH]: "why_too_much" };

export class ConnectionStatus {
  #word; #spoken; #notice; #now; #name = ""; #until = 0; #ticking = 0; #later = 0;

  /** notice: the element that holds the sentence; now(): connect at once. */
  constructor({ notice, now }) {
    this.#word = document.querySelector(".state-word");
    this.#spoken = document.querySelector(".state-spoken");
    this.#notice = notice;
    this.#now = now;
  }

  get name() {
    return this.#name;
  }

  /** Shows a machine's state where it is one of the connection: connecting, waiting or stopped. */
  connection({ name, code, reason, until }) {
    if (name === "waiting") this.#waiting(code, until);
    else if (name === "stopped") this.#stopped(code, reason);
    else if (name === "connecting" && this.#name === "") this.show("connecting");
    else if (name === "connecting" && this.#name !== "connecting") this.show("reconnecting", say("reconnecting_now"));
  }

  /** One of the states: connecting, connected, quiet, catching_up, reconnecting, full, signed_out, not_allowed. */
  show(name, word = say(name)) {
    clearInterval(this.#ticking);
    this.#word.textContent = word;
    if (name !== this.#name) this.#spoken.textContent = name === "reconnecting" ? say("reconnecting_now") : word;
    this.#name = document.body.dataset.state = name;
    if (name === "connected") {
      clearTimeout(this.#later);
      this.#later = 0;
      this.#notice.hidden = true;
    }
  }

  #waiting(code, until) {
    this.#until = until;
    const full = code === Close.ROOM_FULL;
    const tick = () => {
      const s = Math.max(0, Math.ceil(this.#until - seconds()));
      this.#word.textContent = full ? say("full") : say("reconnecting", { s });
    };
    this.show(full ? "full" : "reconnecting", "");
    tick();
    this.#ticking = setInterval(tick, 250);
    const key = REASONS[code] ?? "why_lost";
    const tell = () => this.#tell("warn", say(key), [[say("now"), this.#now]]);
    if (key === "why_full" || key === "why_too_much" || !this.#notice.hidden) tell();
    else if (!this.#later) this.#later = setTimeout(tell, PATIENCE);
  }

  #stopped(code, reason) {
    if (code === Close.SIGN_IN) {
      this.show("signed_out");
      this.#tell("bad", say("why_signed_out"), [[say("sign_in"), page.login]]);
    } else {
      this.show("not_allowed");
      const ways = page.rooms ? [[say("other_rooms"), page.rooms]] : [];
      const why = reason === "origin" ? "why_origin" : "why_not_allowed";
      this.#tell("bad", say(why), [[say("try_again"), this.#now], ...ways]);
    }
  }

  #tell(kind, sentence, ways) {
    clearTimeout(this.#later);
    // What stands there already is not said again to those who listen, and keeps the focus.
    if (!this.#notice.hidden && this.#notice.textContent.startsWith(sentence)) return;
    this.#notice.classList.remove("warn", "bad");
    this.#notice.classList.add("notice", kind);
    this.#notice.replaceChildren(icon("alert"), element("p", "", sentence), ...ways.map(way));
    this.#notice.hidden = false;
  }
}

function way([label, goes]) {
  const link = typeof goes === "string";
  const made = element(link ? "a" : "button", "button small", label);
  if (link) made.href = goes;
  else {
    made.type = "button";
    made.addEventListener("click", goes);
  }
  return made;
}
