/* The state machine, step by step: the cases of cases.json, which the Python client is tested with too. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { RoomClient } from "../../../clients/js/client.js";

const cases = JSON.parse(readFileSync(new URL("../cases.json", import.meta.url)));

function perform(client, step) {
  switch (step.do) {
    case "frame":
      return client.frame(step.frame, step.at);
    case "closed":
      return client.closed(step.code, step.reason ?? "", step.at);
    case "say":
      return client.say({ id: step.id, text: step.text }, step.at);
    case "delete":
      return client.delete({ id: step.id, seq: step.seq }, step.at);
    default:
      return client[step.do](step.at);
  }
}

for (const { name, random = 0.5, options, steps } of cases) {
  test(name, () => {
    const client = new RoomClient({ random: () => random, ...options });
    for (const [index, step] of steps.entries()) {
      const effects = JSON.parse(JSON.stringify(perform(client, step)));
      const expected = { effects: step.effects, state: step.state, due: step.due };
      assert.deepEqual({ effects, state: client.state, due: client.due }, expected, `step ${index + 1}: ${JSON.stringify(step)}`);
    }
  });
}
