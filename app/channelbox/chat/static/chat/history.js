/* Message history over HTTP. */
import { request } from "../channelbox/request.js";
import { page } from "../channelbox/ui.js";

export const PAGE_SIZE = 50;

/**
 * Return up to PAGE_SIZE messages, oldest first.
 * @param range `{before: seq}` or `{after: seq}`; `{}`: the newest.
 * @throws {Error} if they cannot be loaded (Busy on overload) or are of another epoch.
 */
export async function load(range, epoch) {
  const address = new URL(page.history, location.href);
  for (const [name, value] of Object.entries({ ...range, limit: PAGE_SIZE })) address.searchParams.set(name, value);
  const response = await request(address, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error(`${response.status}`);
  const body = await response.json();
  if (epoch && body.epoch && body.epoch !== epoch) throw new Error("another epoch");
  return body.messages;
}
