"""Drop-ins of the package and the roles: an administrator's drop-in for the same unit takes precedence."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "packaging/debian/units"
ROLES = ROOT / "ansible/roles"
ADMIN_FILES = ("10-mine.conf", "override.conf")  # names that administrators choose, and that of `systemctl edit`


def packaged() -> list[str]:
    return [f"/usr/lib/systemd/system/{path.relative_to(UNITS)}" for path in UNITS.glob("*.d/*.conf")]


def of_the_roles() -> list[str]:
    found: list[str] = []
    for path in ROLES.glob("*/vars/main.yml"):
        variables = yaml.safe_load(path.read_text())
        found += [value for name, value in variables.items() if name.endswith("_dropin")]
    return found


def test_all_drop_ins_are_covered_and_former_names_are_removed() -> None:
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
    admin_folder = tmp_path / "etc/systemd/system" / folder
    admin_folder.mkdir(parents=True, exist_ok=True)
    for name in ADMIN_FILES:
        (admin_folder / name).touch()
    unit = folder.removesuffix(".d")
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True, exist_ok=True)
    (tmp_path / "usr/lib/systemd/system" / unit).touch()
    command = ["systemd-analyze", f"--root={tmp_path}", "cat-config", f"systemd/system/{unit}"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    order = re.findall(r"^# (/\S+\.conf)$", shown, re.MULTILINE)
    assert order == [str(tmp_path / path[1:]), *(str(admin_folder / name) for name in ADMIN_FILES)]
