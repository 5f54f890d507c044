/* Numbers and spans of time as people read them. */
import { say } from "../channelbox/words.js";

const language = document.documentElement.lang || undefined;
const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const NOTHING = "–";

/** A figure with as many digits as tell something; a dash where it is not known. */
export function number(value) {
  if (value === null || value === undefined) return NOTHING;
  return Number.isInteger(value) || Math.abs(value) >= 10 ? whole.format(value) : tenths.format(value);
}

/** 12 s, 3 min, 2 h 5 min, 4 d 3 h. */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return say("seconds", { n: s });
  if (s < 3_600) return say("minutes", { n: Math.floor(s / 60) });
  if (s < 86_400) return both("hours", Math.floor(s / 3_600), "minutes", Math.floor((s % 3_600) / 60));
  return both("days", Math.floor(s / 86_400), "hours", Math.floor((s % 86_400) / 3_600));
}

function both(unit, n, smaller, rest) {
  const a = say(unit, { n });
  return rest ? say("two_units", { a, b: say(smaller, { n: rest }) }) : a;
}
