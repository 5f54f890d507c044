/* The pages' requests over HTTP: a refusal is heeded by all of them, for as long as it says. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, test } from "node:test";

const SOURCE = readFileSync(new URL("../../../app/channelbox/static/channelbox/request.js", import.meta.url), "utf8");
const DATE = Date.parse("2026-11-24T08:00:00Z");

let asked, answers, now, request, Busy;
let modules = 0;

beforeEach(async () => {
  asked = [];
  answers = [];
  now = 1_000;
  globalThis.fetch = async (address, options) => {
    asked.push({ address, ...options });
    const [status, retryAfter, date] = answers.shift() ?? [200];
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

test("what is answered goes through, with a timeout", async () => {
  answers = [[200], [404]];
  assert.equal((await request("/a", { method: "HEAD" })).status, 200);
  assert.equal((await request("/b")).status, 404);
  assert.deepEqual(asked.map(({ address, method }) => [address, method]), [["/a", "HEAD"], ["/b", undefined]]);
  assert.ok(asked[0].signal instanceof AbortSignal);
});

for (const status of [429, 502, 503, 504]) {
  test(`${status}: nothing is asked for until Retry-After is over, whatever it is`, async () => {
    answers = [[status, "7"]];
    await busyFor(7);
    now += 2_500;
    await busyFor(5, "/b");
    assert.equal(asked.length, 1);
    now += 4_500;
    assert.equal((await request("/b")).status, 200);
    assert.equal(asked.length, 2);
  });
}

test("Retry-After may be a date", async () => {
  answers = [[503, new Date(DATE + 90_000).toUTCString()]];
  await busyFor(90);
});

test("a date in Retry-After is of the server's clock, whatever this computer's says", async () => {
  const theirs = DATE + 3_000_000;
  answers = [[503, new Date(theirs + 90_000).toUTCString(), new Date(theirs).toUTCString()]];
  await busyFor(90);
});

test("without Retry-After, or with nonsense in it, the pauses grow up to a minute and begin anew after an answer", async () => {
  for (const seconds of [5, 10, 20, 40, 60, 60]) {
    answers = [[503, seconds === 20 ? "soon" : undefined]];
    await busyFor(seconds);
    now += seconds * 1_000;
  }
  assert.equal((await request("/a")).status, 200);
  answers = [[429]];
  await busyFor(5);
});

test("pauses are spread, and never shorter than what the server said", async () => {
  Math.random = () => 0.99;
  answers = [[429, "100"]];
  await busyFor(150);
});

test("an absurd Retry-After does not stop a page for ever, and one in the past does not make it hammer", async () => {
  answers = [[429, "1e9"]];
  await busyFor(3_600);
  now += 3_600_000;
  answers = [[429, "0"], [429, "-5"]];
  await busyFor(1);
  now += 1_000;
  await busyFor(1);
  assert.equal(asked.length, 3);
});
