/* Shows what the outbox holds, below the timeline: each with a clock, or a reason and what one can do. */
import { seconds } from "../channelbox/socket.js";
import { element, icon, say } from "../channelbox/words.js";

const SLOW_SECONDS = 5; // without an answer before the words say so

export class Pending {
  #list; #rows = new Map(); #retry; #edit; #drop; #items = [];

  /** retry(id), edit(id), drop(id): what the buttons of what failed do. */
  constructor({ list, retry, edit, drop }) {
    this.#list = list;
    this.#retry = retry;
    this.#edit = edit;
    this.#drop = drop;
    setInterval(() => this.#items.length && this.show(this.#items), 1_000);
  }

  show(all) {
    // A removal is shown at its message, unless it failed.
    const items = all.filter(({ kind, state }) => kind !== "delete" || state === "failed");
    this.#items = all;
    const ids = new Set(items.map(({ id }) => id));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    for (const item of items) {
      let row = this.#rows.get(item.id);
      if (!row) {
        row = this.#row(item);
        this.#rows.set(item.id, row);
        this.#list.append(row);
      }
      const words = status(item);
      const line = row.querySelector(".pending-words");
      if (line.textContent !== words) line.textContent = words;
      if (row.dataset.state === item.state) continue;
      const failed = item.state === "failed";
      row.dataset.state = item.state;
      row.querySelector(".pending-status > svg").replaceWith(icon(failed ? "alert" : "clock"));
      row.querySelector(".pending-ways").hidden = !failed;
    }
    this.#list.hidden = !items.length;
  }

  #row({ id, kind, text }) {
    const removal = kind === "delete";
    const row = element("div", kind === "announcement" ? "pending announcement" : "pending");
    row.dataset.id = id;
    const body = element("p", "text", text);
    body.dir = "auto";
    const line = element("div", "pending-status");
    const ways = element("span", "pending-ways");
    ways.hidden = true;
    ways.append(
      button(say("retry"), () => this.#retry(id)),
      removal ? button(say("dismiss"), () => this.#drop(id)) : button(say("edit"), () => this.#edit(id)),
    );
    line.append(icon("clock"), element("span", "pending-words"), ways);
    row.append(body, line);
    return row;
  }
}

function button(label, act) {
  const made = element("button", "button small", label);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

function status({ kind, state, since, until, code, error }) {
  const now = seconds();
  if (state === "failed") return say(kind === "delete" ? "not_removed" : "failed", { reason: reasonFor(code, error) });
  if (state === "elsewhere") return say("elsewhere"); // its times are of that tab's clock
  if (until > now) return say("later", { s: Math.ceil(until - now) });
  if (state === "waiting") return say("waiting");
  return now - since > SLOW_SECONDS ? say("slow") : say("sending");
}

/** Our own words for an error code, or the server's where it knows one that we do not. */
function reasonFor(code, sentence) {
  try {
    return say(`code_${code}`);
  } catch {
    return sentence || code;
  }
}
