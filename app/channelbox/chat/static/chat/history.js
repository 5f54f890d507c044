/* What was said, over HTTP. */
import { page } from "../channelbox/words.js";

const TIMEOUT = 15_000; // ms

export const PAGE = 50;

/** Up to PAGE messages, oldest first, `{ before: seq }` or `{ after: seq }`. epoch: the room's, as the socket told it. Throws
    when the server does not give them, or those of another room. */
export async function load(range, epoch) {
  const address = new URL(page.history, location.href);
  for (const [name, value] of Object.entries({ ...range, limit: PAGE })) address.searchParams.set(name, value);
  const answer = await fetch(address, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout?.(TIMEOUT) });
  if (!answer.ok) throw new Error(`${answer.status}`);
  const told = await answer.json();
  if (epoch && told.epoch && told.epoch !== epoch) throw new Error("another epoch");
  return told.messages;
}
