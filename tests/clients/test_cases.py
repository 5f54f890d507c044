"""The state machine, step by step: the cases of cases.json, which the JavaScript client is tested with too."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from channelbox_client import Effect, RoomClient

CASES = json.loads((Path(__file__).parent / "cases.json").read_text())


def encoded(effect: Effect) -> dict[str, Any]:
    name = re.sub(r"(?<!^)([A-Z])", r"_\1", type(effect).__name__).lower()
    return {"do": name, **vars(effect)}


def perform(client: RoomClient, step: dict[str, Any]) -> list[Effect]:
    now = step["at"]
    match step["do"]:
        case "frame":
            return client.frame(step["frame"], now)
        case "closed":
            return client.closed(step["code"], step.get("reason", ""), now)
        case "say":
            return client.say(step["text"], now, id=step["id"])
        case "delete":
            return client.delete(step["seq"], now, id=step["id"])
        case do:
            return getattr(client, do)(now)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_each_step_has_the_expected_effects(case: dict[str, Any]) -> None:
    client = RoomClient(random=lambda: case.get("random", 0.5), **case.get("options", {}))
    for number, step in enumerate(case["steps"], 1):
        effects = [encoded(effect) for effect in perform(client, step)]
        expected = {"effects": step["effects"], "state": step["state"], "due": step["due"]}
        assert {"effects": effects, "state": client.state, "due": client.due} == expected, f"step {number}: {step}"
