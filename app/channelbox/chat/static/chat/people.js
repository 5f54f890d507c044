/* People in the room, and who is typing. */
import { element, translate } from "../channelbox/ui.js";
import { avatar } from "./message.js";

const TYPING_MS = 5_000; // after the last typing frame

export class People {
  #count; #list; #line; #typing = new Map(); #timer = 0;

  /** @param options count, list, line: elements for the number of people, their names, and who is typing. */
  constructor({ count, list, line }) {
    this.#count = count;
    this.#list = list;
    this.#line = line;
  }

  /** Show a presence frame; it has no users if there are many. */
  presence({ count, users }) {
    for (const label of this.#count) label.textContent = translate("here", { n: count });
    if (users) this.#list.replaceChildren(...users.map(personRow));
    else this.#list.replaceChildren(element("li", "muted", translate("here_many", { n: count })));
  }

  /** Show that nothing is known without a connection. */
  unknown() {
    for (const label of this.#count) label.textContent = "";
    this.#list.replaceChildren(element("li", "muted", translate("here_unknown")));
    this.#typing.clear();
    this.#showTyping();
  }

  typing(user) {
    this.#typing.set(user, performance.now() + TYPING_MS);
    this.#showTyping();
  }

  /** Note that a message of this person was received. */
  stoppedTyping(user) {
    if (this.#typing.delete(user)) this.#showTyping();
  }

  #showTyping() {
    clearTimeout(this.#timer);
    const now = performance.now();
    for (const [user, until] of this.#typing) if (until <= now) this.#typing.delete(user);
    const [a, b, c] = this.#typing.keys();
    this.#line.textContent = !a ? "" : !b ? translate("typing_one", { a }) : !c ? translate("typing_two", { a, b }) : translate("typing_many");
    if (a) this.#timer = setTimeout(() => this.#showTyping(), 1_000);
  }
}

function personRow(name) {
  const row = element("li");
  row.append(avatar(name), element("bdi", "", name));
  row.title = name;
  return row;
}
