/* What was said, over HTTP. */
import { request } from "../channelbox/request.js";
import { page } from "../channelbox/words.js";

export const PAGE = 50;

/** Up to PAGE messages, oldest first, `{ before: seq }` or `{ after: seq }`. epoch: the room's, as the socket told it. Throws
    when the server does not give them (Busy where it says so), or those of another room. */
export async function load(range, epoch) {
  const address = new URL(page.history, location.href);
  for (const [name, value] of Object.entries({ ...range, limit: PAGE })) address.searchParams.set(name, value);
  const answer = await request(address, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${answer.status}`);
  const told = await answer.json();
  if (epoch && told.epoch && told.epoch !== epoch) throw new Error("another epoch");
  return told.messages;
}
