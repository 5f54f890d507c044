"""Numbers in the inventory have minimums, which the preflight checks and the defaults respect."""

import re
from pathlib import Path

import yaml
from tests.ansible.test_filters import filters

ROLES = Path(__file__).resolve().parents[2] / "ansible/roles"


def minimums() -> dict[str, float]:
    found: dict[str, float] = yaml.safe_load((ROLES / "preflight/vars/main.yml").read_text())["_channelbox_least"]
    return found


def test_every_number_has_a_minimum() -> None:
    numbers = {
        name for name, option in filters.argument_specs(str(ROLES)).items() if option["type"] in ("int", "float")
    }
    assert numbers - minimums().keys() == set()


def test_defaults_are_not_below_their_minimum() -> None:
    for path in ROLES.glob("*/defaults/main.yml"):
        for name, value in (yaml.safe_load(path.read_text()) or {}).items():
            if name in minimums() and re.fullmatch(r"\d+", str(value)):
                assert value >= minimums()[name], name
