/* Random histories with connections cut at any point: the client shows no gap and no duplicate, and each message is
   stored once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HISTORY, Run, seededRandom, Server } from "./scripted.js";

const RUNS = 1_500;
const STEPS = 50;
const CODES = [1006, 1012, 1013, 4000, 4008];
const JUNK = [
  null,
  [],
  "text",
  7,
  { type: "later" },
  { type: "gap", from: "1", to: null },
  { error: "?", code: "invalid" },
  { type: "stored", id: "x", seq: 1 },
];

/** Run one random history, which the seed determines. */
function play(seed, modern, { refusals = true } = {}) {
  const random = seededRandom(seed);
  const upTo = (max) => 1 + Math.floor(random() * max);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const server = new Server(modern);
  server.store("bob", "first", "hi");
  const run = new Run(server, seed);
  let said = 0;
  const say = () => {
    said += 1;
    run.apply(run.client.say({ id: `id-${said}`, text: `${said}` }, run.now));
  };
  const steps = [
    () => run.receive(upTo(6)),
    () => run.receive(upTo(6)),
    () => run.deliver(upTo(4)),
    () => run.otherSays(upTo(4)),
    () => run.otherSays(20),
    say,
    () => run.cut(pick(CODES)),
    () => run.passTime(pick([0.1, 1, 30])),
    () => run.receiveFrame(pick(JUNK)),
    () => run.shown.length && run.receiveFrame(pick(run.shown)), // a duplicate
    () => run.client.room.welcomed && run.receiveFrame({ type: "welcome", seq: 3, you: "charlie", resumed: false }),
    // The server leaves out an event without a gap frame.
    () => run.down[0]?.type === "message" && run.down[1]?.type === "message" && run.down.shift(),
  ];
  if (refusals) steps.push(() => (server.refuses = upTo(5)));
  if (modern) {
    steps.push(
      () => (run.cut(), server.erase(Math.min(upTo(30), server.newest))),
      () => (run.cut(), server.recreate(upTo(40) - 1)),
    );
  }
  const count = upTo(STEPS);
  for (let step = 0; step < count; step += 1) pick(steps)();
  run.settle();
  run.check();
  assert.equal(run.answers.length, said);
  assert.ok(run.answers.every(([, answer]) => answer === "stored"));
  return run;
}

for (const modern of [true, false]) {
  test(`no gap, no duplicate, stored once (${modern ? "with" : "without"} epoch and floor)`, () => {
    for (let seed = 1; seed <= RUNS; seed += 1) {
      try {
        play(seed, modern);
      } catch (error) {
        error.message = `seed ${seed}: ${error.message}`;
        throw error;
      }
    }
  });

  test(`a first history cut anywhere shows the same events (${modern ? "with" : "without"} epoch)`, () => {
    for (let cut = 0; cut < HISTORY + 3; cut += 1) {
      const server = new Server(modern);
      for (let n = 0; n < 40; n += 1) server.store("bob", `${n}`, "hi");
      const run = new Run(server);
      run.receive(cut);
      run.cut();
      run.settle();
      assert.deepEqual(run.shown.map(({ seq }) => seq), [36, 37, 38, 39, 40]);
    }
  });
}

test("messages are stored in order, however often the connection is cut", () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const run = play(seed, false, { refusals: false });
    const own = [...run.server.record.values()].filter(({ user }) => user === "alice");
    const numbers = own.map(({ message }) => Number(message));
    assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b));
  }
});
