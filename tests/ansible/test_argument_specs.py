"""The argument specifications of the roles describe the variables as defaults/main.yml sets them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from tests.ansible.test_filters import filters

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"
ROLES = sorted(path.name for path in (ANSIBLE / "roles").iterdir())
# Ansible reads this variable to choose the hosts of a play, before any role, so its default is in site.yml.
OF_SITE_YML = "channelbox_serial"


class Unsafe(str):
    """Text that Ansible does not evaluate as a template."""


class Loader(yaml.SafeLoader):
    """A YAML loader that knows Ansible's tag `!unsafe`."""


Loader.add_constructor("!unsafe", lambda _loader, node: Unsafe(node.value))


def options(role: str) -> dict[str, Any]:
    text = (ANSIBLE / "roles" / role / "meta/argument_specs.yml").read_text()
    found: dict[str, Any] = yaml.load(text, Loader)["argument_specs"]["main"].get("options", {})
    return found


def documented(role: str) -> dict[str, Any]:
    return {name: option["default"] for name, option in options(role).items() if "default" in option}


@pytest.mark.parametrize("role", ROLES)
def test_documented_defaults_match_the_role(role: str) -> None:
    defaults = yaml.safe_load((ANSIBLE / "roles" / role / "defaults/main.yml").read_text()) or {}
    assert {name: value for name, value in documented(role).items() if name != OF_SITE_YML} == defaults


def test_documented_default_of_serial_matches_site_yml() -> None:
    plays = yaml.safe_load((ANSIBLE / "site.yml").read_text())
    default = documented("shared_vars")[OF_SITE_YML]
    assert {play["serial"] for play in plays if "serial" in play} == {f"{{{{ {OF_SITE_YML} | default('{default}') }}}}"}


@pytest.mark.parametrize("role", ROLES)
def test_template_defaults_are_marked_unsafe(role: str) -> None:
    """Ansible evaluates the whole specification, even if the variable is set and the default cannot be evaluated."""
    templates = {name: value for name, value in documented(role).items() if "{{" in str(value)}
    assert [name for name, value in templates.items() if not isinstance(value, Unsafe)] == []


def test_preflight_does_not_check_defaults_of_other_roles() -> None:
    validator = ArgumentSpecValidator(filters.argument_specs(str(ANSIBLE / "roles")))
    assert validator.validate({}).error_messages == []


@pytest.mark.parametrize("role", ROLES)
def test_readme_of_each_role_lists_its_variables(role: str) -> None:
    text = (ANSIBLE / "roles" / role / "README.md").read_text().replace("\\|", "¦")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (?:`(.*?)`)? *\| (.*) \|$", text, re.MULTILINE)

    def default(option: dict[str, Any]) -> str:
        if "default" not in option:
            return ""
        value = option["default"]
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return text.replace("|", "¦") or '""'

    def description(option: dict[str, Any]) -> str:
        return re.sub(r"\b[CI]\((.*?)\)", r"`\1`", " ".join(option["description"]))

    specified = options(role).items()
    assert rows == [(name, option["type"], default(option), description(option)) for name, option in specified]
