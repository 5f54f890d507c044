/* Requests over HTTP, as often as the server allows: one refusal holds back all requests of this page until it is over. */

const TIMEOUT = 15_000; // ms
const REFUSALS = [429, 502, 503, 504]; // too much was asked, by this person or by all
const MIN_PAUSE = 1_000; // ms
const FIRST_PAUSE = 5_000; // ms after a refusal that does not say how long, doubled with each that follows
const MAX_PAUSE = 60_000;
const MAX_RETRY_AFTER = 3_600_000; // ms: what is longer is nonsense
const SPREAD = 0.5; // of the pause on top, at random: not everybody at the same time

/** The server is not to be asked for so many seconds. */
export class Busy extends Error {
  constructor(seconds) {
    super(`busy for ${seconds} s`);
    this.seconds = seconds;
  }
}

let until = 0; // on performance.now()'s clock
let refusals = 0; // one after the other

/** As fetch, with a timeout. Throws Busy when the server refuses because of its load, and without asking until that is over. */
export async function request(address, options = {}) {
  if (performance.now() < until) throw busy();
  const answer = await fetch(address, { signal: AbortSignal.timeout?.(TIMEOUT), ...options });
  if (!REFUSALS.includes(answer.status)) {
    refusals = 0;
    return answer;
  }
  const pause = retryAfter(answer.headers) ?? Math.min(MAX_PAUSE, FIRST_PAUSE * 2 ** refusals);
  refusals = Math.min(refusals + 1, 10);
  until = Math.max(until, performance.now() + pause * (1 + SPREAD * Math.random()));
  throw busy();
}

function busy() {
  return new Busy(Math.ceil((until - performance.now()) / 1_000));
}

/** Retry-After's milliseconds: it has seconds, or a date of the clock that the answer's Date is of. null: it says nothing. */
function retryAfter(headers) {
  const header = headers.get("Retry-After");
  if (header === null || header.trim() === "") return null;
  const now = Date.parse(headers.get("Date")) || Date.now();
  const wait = Number.isNaN(Number(header)) ? Date.parse(header) - now : Number(header) * 1_000;
  return Number.isNaN(wait) ? null : Math.min(MAX_RETRY_AFTER, Math.max(MIN_PAUSE, wait));
}
