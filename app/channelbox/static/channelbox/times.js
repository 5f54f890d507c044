/* Dates and times for people, in the page's language and the browser's time zone. */
const language = document.documentElement.lang || undefined;
const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const seconds = new Intl.DateTimeFormat(language, { timeStyle: "medium", hourCycle: "h23" });
const weekday = new Intl.DateTimeFormat(language, { weekday: "short" });
const date = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", year: "numeric" });
const day = new Intl.DateTimeFormat(language, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const full = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "medium", hourCycle: "h23" });

export const hoursMinutes = (at) => clock.format(at);
export const hoursMinutesSeconds = (at) => seconds.format(at);
export const longDay = (at) => day.format(at);
export const fullTime = (at) => full.format(at);

/** Return a number for the day of a Date, in the local time zone. */
export const dayNumber = (at) => at.getFullYear() * 10000 + at.getMonth() * 100 + at.getDate();

/** Return a short form: 14:05 today, Mon within the last six days, a date before that. */
export function shortTime(at, now = new Date()) {
  if (dayNumber(at) === dayNumber(now)) return clock.format(at);
  const age = now.getTime() - at.getTime();
  if (age >= 0 && age < 6 * 86_400_000) return weekday.format(at);
  return date.format(at);
}
