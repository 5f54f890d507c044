/* HTTP requests with backoff: a refusal holds back all requests of this page. */

const TIMEOUT_MS = 15_000;
const REFUSALS = [429, 502, 503, 504]; // too many requests, by this person or by all
const MIN_PAUSE_MS = 1_000;
const FIRST_PAUSE_MS = 5_000; // without Retry-After; doubled with each further refusal
const MAX_PAUSE_MS = 60_000;
const MAX_RETRY_AFTER_MS = 3_600_000; // longer values count as this one
const JITTER = 0.5; // of the pause, added at random: not all pages at once

/** The server must not be asked for this many seconds. */
export class Busy extends Error {
  constructor(seconds) {
    super(`busy for ${seconds} s`);
    this.seconds = seconds;
  }
}

let until = 0; // on performance.now()'s clock
let refusals = 0; // in a row

/**
 * Call fetch with a timeout, where the browser has that.
 * @returns the response, unless it is a refusal because of overload.
 * @throws {Busy} after such a refusal, and, without a request, until the pause that follows it is over.
 */
export async function request(address, options = {}) {
  if (performance.now() < until) throw busy();
  const response = await fetch(address, { signal: AbortSignal.timeout?.(TIMEOUT_MS), ...options });
  if (!REFUSALS.includes(response.status)) {
    refusals = 0;
    return response;
  }
  const pause = retryAfter(response.headers) ?? Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** refusals);
  refusals = Math.min(refusals + 1, 10);
  until = Math.max(until, performance.now() + pause * (1 + JITTER * Math.random()));
  throw busy();
}

function busy() {
  return new Busy(Math.ceil((until - performance.now()) / 1_000));
}

/** Return Retry-After in ms, or null: it has seconds, or a date on the clock that the response's Date is of. */
function retryAfter(headers) {
  const header = headers.get("Retry-After");
  if (header === null || header.trim() === "") return null;
  const now = Date.parse(headers.get("Date")) || Date.now();
  const wait = Number.isNaN(Number(header)) ? Date.parse(header) - now : Number(header) * 1_000;
  return Number.isNaN(wait) ? null : Math.min(MAX_RETRY_AFTER_MS, Math.max(MIN_PAUSE_MS, wait));
}
