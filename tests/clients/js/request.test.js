/* The pages' HTTP requests: a refusal delays all of them, for as long as it says. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, test } from "node:test";

const SOURCE = readFileSync(new URL("../../../app/channelbox/static/channelbox/request.js", import.meta.url), "utf8");
const DATE = Date.parse("2026-11-24T08:00:00Z");

let requests, responses, now, request, Busy;
let modules = 0;

beforeEach(async () => {
  requests = [];
  responses = [];
  now = 1_000;
  globalThis.fetch = async (address, options) => {
    requests.push({ address, ...options });
    const [status, retryAfter, date] = responses.shift() ?? [200];
    const headers = Object.entries({ "Retry-After": retryAfter, Date: date }).filter(([, value]) => value !== undefined);
    return new Response(null, { status, headers });
  };
  Object.defineProperty(globalThis, "performance", { value: { now: () => now }, configurable: true });
  Date.now = () => DATE + now - 1_000;
  Math.random = () => 0;
  ({ request, Busy } = await import(`data:text/javascript,${encodeURIComponent(SOURCE)}//${(modules += 1)}`));
});

async function busyFor(seconds, address = "/a") {
  await assert.rejects(request(address), (error) => error instanceof Busy && error.seconds === seconds);
}

test("a response is passed on, and requests have a timeout", async () => {
  responses = [[200], [404]];
  assert.equal((await request("/a", { method: "HEAD" })).status, 200);
  assert.equal((await request("/b")).status, 404);
  assert.deepEqual(requests.map(({ address, method }) => [address, method]), [["/a", "HEAD"], ["/b", undefined]]);
  assert.ok(requests[0].signal instanceof AbortSignal);
});

for (const status of [429, 502, 503, 504]) {
  test(`${status}: no request is sent until Retry-After is over`, async () => {
    responses = [[status, "7"]];
    await busyFor(7);
    now += 2_500;
    await busyFor(5, "/b");
    assert.equal(requests.length, 1);
    now += 4_500;
    assert.equal((await request("/b")).status, 200);
    assert.equal(requests.length, 2);
  });
}

test("Retry-After may be a date", async () => {
  responses = [[503, new Date(DATE + 90_000).toUTCString()]];
  await busyFor(90);
});

test("a date in Retry-After is read on the server's clock", async () => {
  const serverTime = DATE + 3_000_000;
  responses = [[503, new Date(serverTime + 90_000).toUTCString(), new Date(serverTime).toUTCString()]];
  await busyFor(90);
});

test("without a valid Retry-After pauses grow to a minute, until a response", async () => {
  for (const seconds of [5, 10, 20, 40, 60, 60]) {
    responses = [[503, seconds === 20 ? "soon" : undefined]];
    await busyFor(seconds);
    now += seconds * 1_000;
  }
  assert.equal((await request("/a")).status, 200);
  responses = [[429]];
  await busyFor(5);
});

test("pauses are spread, and never shorter than Retry-After", async () => {
  Math.random = () => 0.99;
  responses = [[429, "100"]];
  await busyFor(150);
});

test("very long and past values of Retry-After are limited", async () => {
  responses = [[429, "1e9"]];
  await busyFor(3_600);
  now += 3_600_000;
  responses = [[429, "0"], [429, "-5"]];
  await busyFor(1);
  now += 1_000;
  await busyFor(1);
  assert.equal(requests.length, 3);
});
