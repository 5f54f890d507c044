/* One message as an element. Text is set as text, never as HTML. */
import { element, say } from "../channelbox/words.js";
import { dayNumber, fullTime, hoursMinutes, longDay } from "../channelbox/times.js";

const GROUP = 5 * 60_000; // ms within which messages of one sender stand together

/** The element for a message, after `previous` (or null: it is the first). */
export function render(message, previous, you) {
  const at = new Date(message.at);
  const before = previous && new Date(previous.at);
  const newDay = !before || dayNumber(before) !== dayNumber(at);
  const first = newDay || previous.user !== message.user || at - before > GROUP;

  const row = element("div", first ? "message first" : "message");
  row.dataset.seq = message.seq;
  if (message.user === you) row.classList.add("own");
  if (newDay) row.append(dayLine(at));

  const time = element("time", "at", hoursMinutes(at));
  time.dateTime = message.at;
  time.title = fullTime(at);
  const name = element("bdi", first ? "name" : "name sr", message.user);
  const text = element("p", "text", message.message);
  text.dir = "auto";

  if (first) {
    const head = element("div", "head");
    head.append(name, time);
    row.append(avatar(message.user), head, text);
  } else {
    row.append(name, time, text);
  }
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
