/* Connection status: a dot and a word in the header bar and, where needed, a notice with buttons. */
import { seconds } from "./socket.js";
import { element, icon, page, translate } from "./ui.js";
import { Close } from "../client/connection.js";

const NOTICE_DELAY_MS = 1_000; // most interruptions are over by then

const REASONS = { [Close.RESTART]: "why_restart", [Close.TRY_LATER]: "why_later", [Close.ROOM_FULL]: "why_full", [Close.TOO_MUCH]: "why_too_much" };

export class ConnectionStatus {
  #word; #spoken; #notice; #connect; #name = ""; #until = 0; #countdown = 0; #noticeTimer = 0;

  /** @param options notice: element for the notice; connect(): connects immediately. */
  constructor({ notice, connect }) {
    this.#word = document.querySelector(".state-word");
    this.#spoken = document.querySelector(".state-spoken");
    this.#notice = notice;
    this.#connect = connect;
  }

  get name() {
    return this.#name;
  }

  /** Show a `state` effect whose state is connecting, waiting or stopped. */
  connection({ name, code, reason, until }) {
    if (name === "waiting") this.#waiting(code, until);
    else if (name === "stopped") this.#stopped(code, reason);
    else if (name === "connecting" && this.#name === "") this.show("connecting");
    else if (name === "connecting" && this.#name !== "connecting") this.show("reconnecting", translate("reconnecting_now"));
  }

  /** Show a state: connecting, connected, quiet, catching_up, reconnecting, full, signed_out or not_allowed. */
  show(name, word = translate(name)) {
    clearInterval(this.#countdown);
    this.#word.textContent = word;
    if (name !== this.#name) this.#spoken.textContent = name === "reconnecting" ? translate("reconnecting_now") : word;
    this.#name = document.body.dataset.state = name;
    if (name === "connected") {
      clearTimeout(this.#noticeTimer);
      this.#noticeTimer = 0;
      this.#notice.hidden = true;
    }
  }

  #waiting(code, until) {
    this.#until = until;
    const full = code === Close.ROOM_FULL;
    const tick = () => {
      const s = Math.max(0, Math.ceil(this.#until - seconds()));
      this.#word.textContent = full ? translate("full") : translate("reconnecting", { s });
    };
    this.show(full ? "full" : "reconnecting", "");
    tick();
    this.#countdown = setInterval(tick, 250);
    const key = REASONS[code] ?? "why_lost";
    const notify = () => this.#showNotice("warn", translate(key), [[translate("now"), this.#connect]]);
    if (key === "why_full" || key === "why_too_much" || !this.#notice.hidden) notify();
    else if (!this.#noticeTimer) this.#noticeTimer = setTimeout(notify, NOTICE_DELAY_MS);
  }

  #stopped(code, reason) {
    if (code === Close.SIGN_IN) {
      this.show("signed_out");
      this.#showNotice("bad", translate("why_signed_out"), [[translate("sign_in"), page.login]]);
    } else {
      this.show("not_allowed");
      const links = page.rooms ? [[translate("other_rooms"), page.rooms]] : [];
      const why = reason === "origin" ? "why_origin" : "why_not_allowed";
      this.#showNotice("bad", translate(why), [[translate("try_again"), this.#connect], ...links]);
    }
  }

  #showNotice(kind, sentence, actions) {
    clearTimeout(this.#noticeTimer);
    // An unchanged notice is not announced again, and keeps the focus.
    if (!this.#notice.hidden && this.#notice.textContent.startsWith(sentence)) return;
    this.#notice.classList.remove("warn", "bad");
    this.#notice.classList.add("notice", kind);
    this.#notice.replaceChildren(icon("alert"), element("p", "", sentence), ...actions.map(actionElement));
    this.#notice.hidden = false;
  }
}

function actionElement([label, target]) {
  const link = typeof target === "string";
  const action = element(link ? "a" : "button", "button small", label);
  if (link) action.href = target;
  else {
    action.type = "button";
    action.addEventListener("click", target);
  }
  return action;
}
