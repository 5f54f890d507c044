/* Rendering of one message. Text is set as text, never as HTML. */
import { element, icon, translate } from "../channelbox/ui.js";
import { dayNumber, fullTime, hoursMinutes, longDay } from "../channelbox/times.js";
import { moreButton } from "./menu.js";

const GROUP_MS = 5 * 60_000; // within which messages of one sender are grouped

/**
 * Create the element of a message.
 * @param previous the message before it, or null.
 * @param viewer you: their name; mayRemove: whether they may remove messages of others.
 */
export function render(message, previous, { you, mayRemove }) {
  const at = new Date(message.at);
  const before = previous && new Date(previous.at);
  const newDay = !before || dayNumber(before) !== dayNumber(at);
  const announcement = message.type === "announcement";
  const first =
    newDay || announcement || previous.type !== message.type || previous.user !== message.user ||
    at.getTime() - before.getTime() > GROUP_MS;

  const row = element("div", first ? "message first" : "message");
  if (announcement) row.classList.add("announcement");
  row.dataset.seq = message.seq;
  if (message.user === you) row.classList.add("own");
  if (newDay) row.append(dayLine(at));

  const time = element("time", "at", hoursMinutes(at));
  time.dateTime = message.at;
  time.title = fullTime(at);
  const name = element("bdi", first ? "name" : "name sr", message.user);
  const { removed } = message;
  const text = element("p", removed ? "text removed" : "text", removed ? translate("removed", { user: removed.by }) : message.message);
  text.dir = "auto";

  if (first) {
    const head = element("div", "head");
    head.append(name, time);
    if (announcement) head.append(element("span", "label", translate("announcement")));
    row.append(avatar(message.user), head, text);
  } else {
    row.append(name, time, text);
  }
  if (!removed && (mayRemove || message.user === you)) row.append(moreButton(icon("more"), message.user));
  return row;
}

/** Create an avatar: a letter on a colour that is the same for a name everywhere. */
export function avatar(name) {
  let sum = 0x811c9dc5; // FNV-1a: names that differ in a letter differ in colour
  for (const letter of name) sum = Math.imul(sum ^ letter.codePointAt(0), 0x01000193) >>> 0;
  const mark = element("span", `avatar tone-${sum % 12}`, ([...name.trim()][0] ?? "?").toLocaleUpperCase());
  mark.setAttribute("aria-hidden", "true");
  return mark;
}

function dayLine(at) {
  const line = element("div", "day");
  const label = element("span");
  label.dataset.day = at.toISOString();
  line.append(label);
  nameDay(label);
  return line;
}

/** Set the text of a day separator; called again when the date changes, for "Today" and "Yesterday". */
export function nameDay(label) {
  const at = new Date(label.dataset.day);
  const now = new Date();
  const yesterday = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1);
  const day = dayNumber(at);
  label.textContent =
    day === dayNumber(now) ? translate("today") : day === dayNumber(yesterday) ? translate("yesterday") : longDay(at);
}
