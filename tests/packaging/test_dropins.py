"""The drop-ins that the package and the roles put beside units: any of an administrator's comes after them."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "packaging/debian/units"
ROLES = ROOT / "ansible/roles"
THEIRS = ("10-mine.conf", "override.conf")  # as people name them, and `systemctl edit` does


def packaged() -> list[str]:
    return [f"/usr/lib/systemd/system/{path.relative_to(UNITS)}" for path in UNITS.glob("*.d/*.conf")]


def of_the_roles() -> list[str]:
    found: list[str] = []
    for path in ROLES.glob("*/vars/main.yml"):
        variables = yaml.safe_load(path.read_text())
        found += [value for name, value in variables.items() if name.endswith("_dropin")]
    return found


def test_every_drop_in_is_looked_at_and_its_former_name_removed() -> None:
    assert len(packaged()) == len(list(UNITS.glob("*.d/*"))) == 3
    text = "".join(path.read_text() for path in ROLES.rglob("*.yml"))
    assert len(of_the_roles()) == len(re.findall(r"\S+\.service\.d/\S+\.conf", text)) == 4
    former = r"path: \"\{\{ (_channelbox_\w+_dropin) \| dirname \}\}/channelbox\.conf\"\n    state: absent"
    assert set(re.findall(former, text)) == set(re.findall(r"^(_channelbox_\w+_dropin): ", text, re.MULTILINE))


@pytest.mark.parametrize("path", [*packaged(), *of_the_roles()])
def test_an_administrators_drop_in_wins(tmp_path: Path, path: str) -> None:
    folder = Path(path).parent.name
    (tmp_path / path[1:]).parent.mkdir(parents=True)
    (tmp_path / path[1:]).touch()
    theirs = tmp_path / "etc/systemd/system" / folder
    theirs.mkdir(parents=True, exist_ok=True)
    for name in THEIRS:
        (theirs / name).touch()
    unit = folder.removesuffix(".d")
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True, exist_ok=True)
    (tmp_path / "usr/lib/systemd/system" / unit).touch()
    command = ["systemd-analyze", f"--root={tmp_path}", "cat-config", f"systemd/system/{unit}"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    order = re.findall(r"^# (/\S+\.conf)$", shown, re.MULTILINE)
    assert order == [str(tmp_path / path[1:]), *(str(theirs / name) for name in THEIRS)]
