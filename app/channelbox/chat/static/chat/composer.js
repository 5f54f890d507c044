/* Text field that grows with its text. Enter sends, Shift+Enter breaks the line, and the draft survives a reload. */
import { page, translate } from "../channelbox/ui.js";

const NEAR_LIMIT = 200; // characters left at which the count appears
const TYPING_INTERVAL_MS = 3_000; // between typing notifications

export class Composer {
  #form; #text; #count; #announce; #send; #typing; #limit = page.limit; #typingSentAt = -Infinity; #composing = false;
  #draftKey = `channelbox:draft:${page.person}:${page.room}`;

  /** @param options send(text, kind): sends a message or an announcement; typing(): called while the person types. */
  constructor({ form, send, typing }) {
    this.#form = form;
    this.#text = form.querySelector("textarea");
    this.#count = form.querySelector(".count");
    this.#announce = form.querySelector(".announce");
    this.#announce.addEventListener("click", () => this.#setAnnouncing(this.#announce.getAttribute("aria-pressed") !== "true"));
    this.#send = send;
    this.#typing = typing;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("keydown", (event) => {
      // keyCode 229: an input method is composing, and Enter selects a candidate.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("input", () => {
      this.#saveDraft();
      this.#update();
      if (this.#text.value.trim() && performance.now() - this.#typingSentAt > TYPING_INTERVAL_MS) {
        this.#typingSentAt = performance.now();
        this.#typing();
      }
    });
    this.#text.addEventListener("compositionstart", () => (this.#composing = true));
    this.#text.addEventListener("compositionend", () => (this.#composing = false));
    addEventListener("resize", () => this.#update());
    // Follow the draft that the person is writing in another tab.
    addEventListener("storage", ({ key, newValue }) => {
      if (key !== this.#draftKey || document.hasFocus()) return;
      this.#text.value = newValue ?? "";
      this.#update();
    });
    this.#text.value ||= this.#loadDraft();
    this.#update();
    if (matchMedia("(pointer: fine)").matches) this.#text.focus({ preventScroll: true });
  }

  set limit(characters) {
    this.#limit = characters;
    this.#update();
  }

  /** Whether the person may write announcements. */
  set mayAnnounce(may) {
    this.#announce.hidden = !may;
    if (!may) this.#setAnnouncing(false);
  }

  /** Whether a reload would lose nothing of the draft. */
  get saved() {
    return !this.#composing && !this.#form.classList.contains("announcing") && this.#text.value === this.#loadDraft();
  }

  #setAnnouncing(on) {
    this.#announce.setAttribute("aria-pressed", String(on));
    this.#form.classList.toggle("announcing", on);
    this.#text.focus();
  }

  /** Insert a text before the draft, for editing. */
  edit(text) {
    this.#text.value = [text, this.#text.value].filter(Boolean).join("\n");
    this.#saveDraft();
    this.#update();
    this.#text.focus();
    this.#text.setSelectionRange(text.length, text.length);
  }

  #submit() {
    const text = this.#text.value.trim();
    this.#text.focus();
    if (!text || length(text) > this.#limit) return;
    this.#text.value = "";
    this.#typingSentAt = -Infinity;
    this.#saveDraft();
    this.#update();
    this.#send(text, this.#announce.getAttribute("aria-pressed") === "true" ? "announcement" : "message");
    if (!this.#announce.hidden) this.#setAnnouncing(false);
  }

  #update() {
    const text = this.#text;
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight + text.offsetHeight - text.clientHeight}px`;
    const left = this.#limit - length(text.value.trim());
    const over = left < 0;
    this.#count.textContent = over ? translate("over", { n: -left }) : left <= NEAR_LIMIT ? translate("left", { n: left }) : "";
    this.#form.classList.toggle("over", over);
    text.setAttribute("aria-invalid", String(over));
  }

  #loadDraft() {
    try {
      return localStorage.getItem(this.#draftKey) ?? "";
    } catch {
      return "";
    }
  }

  #saveDraft() {
    try {
      if (this.#text.value) localStorage.setItem(this.#draftKey, this.#text.value);
      else localStorage.removeItem(this.#draftKey);
    } catch {
      /* full or disabled: the field still has the draft */
    }
  }
}

/** Count characters as the server does: code points, not UTF-16 units. */
function length(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}
