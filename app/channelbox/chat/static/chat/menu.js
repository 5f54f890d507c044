/* A message's menu, one for all of them, and the question before a message is removed.

   Each row that has something to offer has a button `.more`. Tab reaches the newest of them, the arrow keys the others. */
import { say } from "../channelbox/words.js";

export class MessageMenu {
  #log; #menu; #dialog; #remove; #opener = null; #seq = 0;

  /** log: the rows; menu, dialog: elements of the page; remove(seq, text): after the question. */
  constructor({ log, menu, dialog, remove }) {
    this.#log = log;
    this.#menu = menu;
    this.#dialog = dialog;
    this.#remove = remove;
    log.addEventListener("click", ({ target }) => this.#clicked(target.closest(".more")));
    log.addEventListener("keydown", (event) => this.#walk(event));
    log.addEventListener("focusin", ({ target }) => target.matches(".more") && this.#reach(target));
    new MutationObserver(() => this.#renew()).observe(log, { childList: true });
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" && event.key !== "Tab") return;
      event.preventDefault();
      this.#close(true);
    });
    menu.querySelector(".remove").addEventListener("click", () => this.#ask());
    addEventListener("pointerdown", ({ target }) => menu.contains(target) || target.closest?.(".more") || this.#close());
    log.closest(".scroller").addEventListener("scroll", () => this.#close(), { passive: true });
    dialog.addEventListener("close", () => this.#answered());
  }

  #clicked(button) {
    if (!button) return;
    const again = button === this.#opener && !this.#menu.hidden;
    this.#close();
    if (again) return;
    this.#opener = button;
    this.#seq = Number(button.closest(".message").dataset.seq);
    button.setAttribute("aria-expanded", "true");
    this.#menu.hidden = false;
    this.#place(button.getBoundingClientRect());
    this.#menu.querySelector("button").focus({ preventScroll: true });
  }

  /** Below the button, or above it where there is no room below. */
  #place(at) {
    const view = this.#menu.offsetParent.getBoundingClientRect();
    const below = at.bottom + this.#menu.offsetHeight < view.bottom;
    this.#menu.style.top = `${(below ? at.bottom : at.top - this.#menu.offsetHeight) - view.top}px`;
    const rtl = getComputedStyle(this.#menu).direction === "rtl";
    this.#menu.style.insetInlineEnd = `${rtl ? at.left - view.left : view.right - at.right}px`;
  }

  #close(back = false) {
    if (this.#menu.hidden) return;
    this.#menu.hidden = true;
    this.#opener.setAttribute("aria-expanded", "false");
    if (back) this.#opener.focus();
  }

  #ask() {
    this.#close(true);
    const row = this.#log.querySelector(`[data-seq="${this.#seq}"]`);
    if (!row?.querySelector(".more")) return; // removed meanwhile, or out of the window
    this.#dialog.querySelector("blockquote").textContent = row.querySelector(".text").textContent;
    this.#dialog.returnValue = "";
    this.#dialog.showModal();
  }

  #answered() {
    if (this.#dialog.returnValue === "remove") this.#remove(this.#seq, this.#dialog.querySelector("blockquote").textContent);
    if (!this.#opener.isConnected) this.#buttons().at(-1)?.focus();
  }

  #buttons() {
    return [...this.#log.querySelectorAll(".more")];
  }

  #walk(event) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || !event.target.matches(".more")) return;
    event.preventDefault();
    const all = this.#buttons();
    all[all.indexOf(event.target) + step]?.focus();
  }

  #reach(button) {
    for (const one of this.#log.querySelectorAll('.more[tabindex="0"]')) one.tabIndex = -1;
    button.tabIndex = 0;
  }

  /** The newest is the one that Tab reaches, unless the focus is among them. */
  #renew() {
    if (this.#log.contains(document.activeElement)) return;
    const newest = this.#buttons().at(-1);
    if (newest) this.#reach(newest);
  }
}

/** The button of a row. */
export function moreButton(icon, name) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "more";
  button.tabIndex = -1;
  button.setAttribute("aria-haspopup", "menu");
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-label", say("more", { user: name }));
  button.append(icon);
  return button;
}
