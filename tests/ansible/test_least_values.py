"""Numbers of the inventory: each has a least value, which the preflight asks for and which the defaults have."""

import re
from pathlib import Path

import yaml
from tests.ansible.test_filters import filters

ROLES = Path(__file__).resolve().parents[2] / "ansible/roles"


def least() -> dict[str, float]:
    found: dict[str, float] = yaml.safe_load((ROLES / "preflight/vars/main.yml").read_text())["_channelbox_least"]
    return found


def test_every_number_has_a_least_value() -> None:
    numbers = {
        name for name, option in filters.argument_specs(str(ROLES)).items() if option["type"] in ("int", "float")
    }
    assert numbers - least().keys() == set()


def test_the_documented_defaults_are_not_below() -> None:
    for path in ROLES.glob("*/defaults/main.yml"):
        for name, value in (yaml.safe_load(path.read_text()) or {}).items():
            if name in least() and re.fullmatch(r"\d+", str(value)):
                assert value >= least()[name], name
