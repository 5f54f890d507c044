/* What was said, over HTTP. */
import { page } from "../channelbox/words.js";

const PATIENCE = 15_000; // ms

export const PAGE = 50;

/** Up to PAGE messages, oldest first, `{ before: seq }` or `{ after: seq }`. Throws when the server does not give them. */
export async function load(range) {
  const address = new URL(page.history, location.href);
  for (const [name, value] of Object.entries({ ...range, limit: PAGE })) address.searchParams.set(name, value);
  const answer = await fetch(address, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout?.(PATIENCE) });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return (await answer.json()).messages;
}
