/* One menu for all messages, and the dialog that confirms a removal.

   Each row with actions has a button `.more`. Tab reaches the newest of them, the arrow keys the others. */
import { translate } from "../channelbox/ui.js";

export class MessageMenu {
  #log; #menu; #dialog; #remove; #opener = null; #seq = 0;

  /** @param options log: the rows; menu, dialog: elements of the page; remove(seq, text): called after confirmation. */
  constructor({ log, menu, dialog, remove }) {
    this.#log = log;
    this.#menu = menu;
    this.#dialog = dialog;
    this.#remove = remove;
    log.addEventListener("click", ({ target }) => this.#toggle(target.closest(".more")));
    log.addEventListener("keydown", (event) => this.#moveFocus(event));
    log.addEventListener("focusin", ({ target }) => target.matches(".more") && this.#setTabStop(target));
    new MutationObserver(() => this.#updateTabStop()).observe(log, { childList: true });
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" && event.key !== "Tab") return;
      event.preventDefault();
      this.#close(true);
    });
    menu.querySelector(".remove").addEventListener("click", () => this.#confirm());
    addEventListener("pointerdown", ({ target }) => menu.contains(target) || target.closest?.(".more") || this.#close());
    log.closest(".scroller").addEventListener("scroll", () => this.#close(), { passive: true });
    dialog.addEventListener("close", () => this.#dialogClosed());
  }

  #toggle(button) {
    if (!button) return;
    const wasOpen = button === this.#opener && !this.#menu.hidden;
    this.#close();
    if (wasOpen) return;
    this.#opener = button;
    this.#seq = Number(button.closest(".message").dataset.seq);
    button.setAttribute("aria-expanded", "true");
    this.#menu.hidden = false;
    this.#position(button.getBoundingClientRect());
    this.#menu.querySelector("button").focus({ preventScroll: true });
  }

  /** Place the menu below the button, or above it if there is no space below. */
  #position(at) {
    const view = this.#menu.offsetParent.getBoundingClientRect();
    const below = at.bottom + this.#menu.offsetHeight < view.bottom;
    this.#menu.style.top = `${(below ? at.bottom : at.top - this.#menu.offsetHeight) - view.top}px`;
    const rtl = getComputedStyle(this.#menu).direction === "rtl";
    this.#menu.style.insetInlineEnd = `${rtl ? at.left - view.left : view.right - at.right}px`;
  }

  #close(restoreFocus = false) {
    if (this.#menu.hidden) return;
    this.#menu.hidden = true;
    this.#opener.setAttribute("aria-expanded", "false");
    if (restoreFocus) this.#opener.focus();
  }

  #confirm() {
    this.#close(true);
    const row = this.#log.querySelector(`[data-seq="${this.#seq}"]`);
    if (!row?.querySelector(".more")) return; // removed meanwhile, or no longer shown
    this.#dialog.querySelector("blockquote").textContent = row.querySelector(".text").textContent;
    this.#dialog.returnValue = "";
    this.#dialog.showModal();
  }

  #dialogClosed() {
    if (this.#dialog.returnValue === "remove") this.#remove(this.#seq, this.#dialog.querySelector("blockquote").textContent);
    if (!this.#opener.isConnected) this.#buttons().at(-1)?.focus();
  }

  #buttons() {
    return [...this.#log.querySelectorAll(".more")];
  }

  #moveFocus(event) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || !event.target.matches(".more")) return;
    event.preventDefault();
    const all = this.#buttons();
    all[all.indexOf(event.target) + step]?.focus();
  }

  #setTabStop(button) {
    for (const one of this.#log.querySelectorAll('.more[tabindex="0"]')) one.tabIndex = -1;
    button.tabIndex = 0;
  }

  /** Let Tab reach the newest button, unless the focus is in the log. */
  #updateTabStop() {
    if (this.#log.contains(document.activeElement)) return;
    const newest = this.#buttons().at(-1);
    if (newest) this.#setTabStop(newest);
  }
}

/** Create the menu button of a message of the sender `name`. */
export function moreButton(icon, name) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "more";
  button.tabIndex = -1;
  button.setAttribute("aria-haspopup", "menu");
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-label", translate("more", { user: name }));
  button.append(icon);
  return button;
}
