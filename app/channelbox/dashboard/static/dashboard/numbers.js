/* Formatting of numbers and durations. */
import { translate } from "../channelbox/ui.js";

const language = document.documentElement.lang || undefined;
const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const NOTHING = "–";

/** Format a figure: one decimal if it is not whole and below 10, none otherwise; a dash if it is not known. */
export function number(value) {
  if (value === null || value === undefined) return NOTHING;
  return Number.isInteger(value) || Math.abs(value) >= 10 ? whole.format(value) : tenths.format(value);
}

/** Format a duration in seconds: 12 s, 3 min, 2 h 5 min, 4 d 3 h. */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return translate("seconds", { n: s });
  if (s < 3_600) return translate("minutes", { n: Math.floor(s / 60) });
  if (s < 86_400) return twoUnits("hours", Math.floor(s / 3_600), "minutes", Math.floor((s % 3_600) / 60));
  return twoUnits("days", Math.floor(s / 86_400), "hours", Math.floor((s % 86_400) / 3_600));
}

function twoUnits(unit, n, smaller, rest) {
  const a = translate(unit, { n });
  return rest ? translate("two_units", { a, b: translate(smaller, { n: rest }) }) : a;
}
