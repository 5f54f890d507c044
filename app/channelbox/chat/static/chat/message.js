/* One message as an element. Text is set as text, never as HTML. */
import { element, icon, say } from "../channelbox/words.js";
import { dayNumber, fullTime, hoursMinutes, longDay } from "../channelbox/times.js";
import { moreButton } from "./menu.js";

const GROUP = 5 * 60_000; // ms within which messages of one sender stand together

/** The element for a message, after `previous` (or null: it is the first). viewer: who looks, {you, mayRemove}. */
export function render(message, previous, { you, mayRemove }) {
  const at = new Date(message.at);
  const before = previous && new Date(previous.at);
  const newDay = !before || dayNumber(before) !== dayNumber(at);
  const announcement = message.type === "announcement";
  const first = newDay || announcement || previous.type !== message.type || previous.user !== message.user || at - before > GROUP;

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
  const text = element("p", removed ? "text removed" : "text", removed ? say("removed", { user: removed.by }) : message.message);
  text.dir = "auto";

  if (first) {
    const head = element("div", "head");
    head.append(name, time);
    if (announcement) head.append(element("span", "label", say("announcement")));
    row.append(avatar(message.user), head, text);
  } else {
    row.append(name, time, text);
  }
  if (!removed && (mayRemove || message.user === you)) row.append(moreButton(icon("more"), message.user));
  return row;
}

/** A letter on a colour that is the same for a name everywhere. */
export function avatar(name) {
  let sum = 0x811c9dc5; // FNV-1a: names that differ in a letter differ in colour
  for (const letter of name) sum = Math.imul(sum ^ letter.codePointAt(0), 0x01000193) >>> 0;
  const made = element("span", `avatar tone-${sum % 12}`, ([...name.trim()][0] ?? "?").toLocaleUpperCase());
  made.setAttribute("aria-hidden", "true");
  return made;
}

function dayLine(at) {
  const line = element("div", "day");
  const words = element("span");
  words.dataset.day = at.toISOString();
  line.append(words);
  nameDay(words);
  return line;
}

/** Today and yesterday move: called again when the date has changed. */
export function nameDay(words) {
  const at = new Date(words.dataset.day);
  const now = new Date();
  const yesterday = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1);
  const day = dayNumber(at);
  words.textContent =
    day === dayNumber(now) ? say("today") : day === dayNumber(yesterday) ? say("yesterday") : longDay(at);
}
