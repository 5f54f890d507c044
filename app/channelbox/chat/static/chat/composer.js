/* Where one writes: grows with the text, Enter sends, Shift+Enter breaks the line, the draft survives a reload. */
import { page, say } from "../channelbox/words.js";

const NEAR_LIMIT = 200; // characters left at which the count shows itself
const TYPING_EVERY = 3_000; // ms

export class Composer {
  #form; #text; #count; #announce; #send; #typing; #limit = page.limit; #typed = -Infinity; #composing = false;
  #draft = `channelbox:draft:${page.person}:${page.room}`;

  /** send(text, kind): a message or an announcement is written. typing(): somebody writes; called now and then. */
  constructor({ form, send, typing }) {
    this.#form = form;
    this.#text = form.querySelector("textarea");
    this.#count = form.querySelector(".count");
    this.#announce = form.querySelector(".announce");
    this.#announce.addEventListener("click", () => this.#announcing(this.#announce.getAttribute("aria-pressed") !== "true"));
    this.#send = send;
    this.#typing = typing;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("keydown", (event) => {
      // keyCode 229: an input method is composing, and Enter chooses a word.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("input", () => {
      this.#keep();
      this.#show();
      if (this.#text.value.trim() && performance.now() - this.#typed > TYPING_EVERY) {
        this.#typed = performance.now();
        this.#typing();
      }
    });
    this.#text.addEventListener("compositionstart", () => (this.#composing = true));
    this.#text.addEventListener("compositionend", () => (this.#composing = false));
    addEventListener("resize", () => this.#show());
    // The person writes in one tab; the others follow.
    addEventListener("storage", ({ key, newValue }) => {
      if (key !== this.#draft || document.hasFocus()) return;
      this.#text.value = newValue ?? "";
      this.#show();
    });
    this.#text.value ||= this.#kept();
    this.#show();
    if (matchMedia("(pointer: fine)").matches) this.#text.focus({ preventScroll: true });
  }

  set limit(characters) {
    this.#limit = characters;
    this.#show();
  }

  /** Whether what is written may be an announcement. */
  set mayAnnounce(may) {
    this.#announce.hidden = !may;
    if (!may) this.#announcing(false);
  }

  /** Whether a reload would lose nothing of what is being written. */
  get safe() {
    return !this.#composing && !this.#form.classList.contains("announcing") && this.#text.value === this.#kept();
  }

  #announcing(on) {
    this.#announce.setAttribute("aria-pressed", String(on));
    this.#form.classList.toggle("announcing", on);
    this.#text.focus();
  }

  /** Puts a text back to be mended, before what is being written. */
  edit(text) {
    this.#text.value = [text, this.#text.value].filter(Boolean).join("\n");
    this.#keep();
    this.#show();
    this.#text.focus();
    this.#text.setSelectionRange(text.length, text.length);
  }

  #submit() {
    const text = this.#text.value.trim();
    this.#text.focus();
    if (!text || length(text) > this.#limit) return;
    this.#text.value = "";
    this.#typed = -Infinity;
    this.#keep();
    this.#show();
    this.#send(text, this.#announce.getAttribute("aria-pressed") === "true" ? "announcement" : "message");
    if (!this.#announce.hidden) this.#announcing(false);
  }

  #show() {
    const text = this.#text;
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight + text.offsetHeight - text.clientHeight}px`;
    const left = this.#limit - length(text.value.trim());
    const over = left < 0;
    this.#count.textContent = over ? say("over", { n: -left }) : left <= NEAR_LIMIT ? say("left", { n: left }) : "";
    this.#form.classList.toggle("over", over);
    text.setAttribute("aria-invalid", String(over));
  }

  #kept() {
    try {
      return localStorage.getItem(this.#draft) ?? "";
    } catch {
      return "";
    }
  }

  #keep() {
    try {
      if (this.#text.value) localStorage.setItem(this.#draft, this.#text.value);
      else localStorage.removeItem(this.#draft);
    } catch {
      /* full or switched off: the field itself still has it */
    }
  }
}

/** Characters as the server counts them, not UTF-16 units. */
function length(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}
