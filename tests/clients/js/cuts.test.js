/* Histories cut anywhere: a client then shows no hole and no double, and what was said is stored once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { chance, HISTORY, Run, Server } from "./scripted.js";

const RUNS = 1_500;
const STEPS = 50;
const CODES = [1006, 1012, 1013, 4000, 4008];
const JUNK = [null, [], "text", 7, { type: "later" }, { type: "gap", from: "1", to: null }, { error: "?", code: "invalid" }, { type: "stored", id: "x", seq: 1 }];

/** One random history; the seed says which. */
function play(seed, modern, { refusals = true } = {}) {
  const random = chance(seed);
  const upTo = (most) => 1 + Math.floor(random() * most);
  const one = (list) => list[Math.floor(random() * list.length)];
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
    () => run.anotherSays(upTo(4)),
    () => run.anotherSays(20),
    say,
    () => run.cut(one(CODES)),
    () => run.passTime(one([0.1, 1, 30])),
    () => run.heard(one(JUNK)),
    () => run.shown.length && run.heard(one(run.shown)), // a second time
    () => run.client.room.welcomed && run.heard({ type: "welcome", seq: 3, you: "mallory", resumed: false }),
    () => run.down[0]?.type === "message" && run.down[1]?.type === "message" && run.down.shift(), // left out without a word
  ];
  if (refusals) steps.push(() => (server.refuses = upTo(5)));
  if (modern) {
    steps.push(
      () => (run.cut(), server.erase(Math.min(upTo(30), server.newest))),
      () => (run.cut(), server.anew(upTo(40) - 1)),
    );
  }
  const count = upTo(STEPS);
  for (let step = 0; step < count; step += 1) one(steps)();
  run.settle();
  run.check();
  assert.equal(run.answers.length, said);
  assert.ok(run.answers.every(([, answer]) => answer === "stored"));
  return run;
}

for (const modern of [true, false]) {
  test(`no hole, no double, each message once (${modern ? "with" : "without"} epoch and floor)`, () => {
    for (let seed = 1; seed <= RUNS; seed += 1) {
      try {
        play(seed, modern);
      } catch (error) {
        error.message = `seed ${seed}: ${error.message}`;
        throw error;
      }
    }
  });

  test(`a first history cut anywhere ends in the same display (${modern ? "with" : "without"} epoch)`, () => {
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

test("what was said is stored in the order of saying, however often the connection is cut", () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const run = play(seed, false, { refusals: false });
    const mine = [...run.server.record.values()].filter(({ user }) => user === "alice").map(({ message }) => Number(message));
    assert.deepEqual(mine, [...mine].sort((a, b) => a - b));
  }
});
