/* Who is here, and who is writing. */
import { element, say } from "../channelbox/words.js";
import { avatar } from "./message.js";

const TYPING_FOR = 5_000; // ms after the last sign of it

export class People {
  #count; #list; #line; #typing = new Map(); #timer = 0;

  /** count, list, line: the elements for how many, who, and who is typing. */
  constructor({ count, list, line }) {
    this.#count = count;
    this.#list = list;
    this.#line = line;
  }

  /** A presence frame; users are left out when there are many. */
  here({ count, users }) {
    for (const place of this.#count) place.textContent = say("here", { n: count });
    if (users) this.#list.replaceChildren(...users.map(person));
    else this.#list.replaceChildren(element("li", "muted", say("here_many", { n: count })));
  }

  /** Nothing is known while the connection is away. */
  away() {
    for (const place of this.#count) place.textContent = "";
    this.#list.replaceChildren(element("li", "muted", say("here_unknown")));
    this.#typing.clear();
    this.#show();
  }

  typing(user) {
    this.#typing.set(user, performance.now() + TYPING_FOR);
    this.#show();
  }

  /** A message came: its sender has stopped. */
  said(user) {
    if (this.#typing.delete(user)) this.#show();
  }

  #show() {
    clearTimeout(this.#timer);
    const now = performance.now();
    for (const [user, until] of this.#typing) if (until <= now) this.#typing.delete(user);
    const [a, b, c] = this.#typing.keys();
    this.#line.textContent = !a ? "" : !b ? say("typing_one", { a }) : !c ? say("typing_two", { a, b }) : say("typing_many");
    if (a) this.#timer = setTimeout(() => this.#show(), 1_000);
  }
}

function person(name) {
  const row = element("li");
  row.append(avatar(name), element("bdi", "", name));
  row.title = name;
  return row;
}
