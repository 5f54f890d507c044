/* Outbox items below the timeline: each with a clock, or with the reason of its failure and buttons. */
import { seconds } from "../channelbox/socket.js";
import { element, icon, translate } from "../channelbox/ui.js";

const SLOW_SECONDS = 5; // without an answer before the text says so

export class Pending {
  #list; #rows = new Map(); #retry; #edit; #drop; #items = [];

  /** @param options retry(id), edit(id), drop(id): actions of the buttons of a failed item. */
  constructor({ list, retry, edit, drop }) {
    this.#list = list;
    this.#retry = retry;
    this.#edit = edit;
    this.#drop = drop;
    setInterval(() => this.#items.length && this.show(this.#items), 1_000);
  }

  show(all) {
    // A removal is shown on the message itself, unless it failed.
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
      const text = status(item);
      const label = row.querySelector(".pending-words");
      if (label.textContent !== text) label.textContent = text;
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
    const actions = element("span", "pending-ways");
    actions.hidden = true;
    actions.append(
      button(translate(removal ? "try_again" : "retry"), () => this.#retry(id)),
      removal ? button(translate("dismiss"), () => this.#drop(id)) : button(translate("edit"), () => this.#edit(id)),
    );
    line.append(icon("clock"), element("span", "pending-words"), actions);
    row.append(body, line);
    return row;
  }
}

function button(label, onClick) {
  const created = element("button", "button small", label);
  created.type = "button";
  created.addEventListener("click", onClick);
  return created;
}

function status({ kind, state, since, until, code, error }) {
  const now = seconds();
  if (state === "failed") return translate(kind === "delete" ? "not_removed" : "failed", { reason: reasonFor(code, error) });
  if (state === "elsewhere") return translate("elsewhere"); // its times are on that tab's clock
  if (until > now) return translate("later", { s: Math.ceil(until - now) });
  if (state === "waiting") return translate("waiting");
  return now - since > SLOW_SECONDS ? translate("slow") : translate("sending");
}

/** Return our text for an error code, or the server's if there is none. */
function reasonFor(code, sentence) {
  try {
    return translate(`code_${code}`);
  } catch {
    return sentence || code;
  }
}
