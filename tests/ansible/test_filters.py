"""What the roles' filters and the secrets' lookup promise."""

import importlib.util
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader

from channelbox.console.envfile import parse

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"


def plugin(path: str) -> ModuleType:
    """A plugin as ansible loads it, by its path."""
    name = "_" + path.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, ANSIBLE / path)
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


filters = plugin("filter_plugins/channelbox.py")
lookup_loader.add_directory(str(ANSIBLE / "lookup_plugins"))


def secret(name: str, folder: Path, **options: Any) -> str:
    (value,) = lookup_loader.get("channelbox_secret").run([name], folder=str(folder), **options)
    return str(value)


def host(name: str, **variables: Any) -> dict[str, Any]:
    return {"inventory_hostname": name, **variables}


def test_what_was_seen_on_a_node_is_its_address_before_what_the_inventory_says() -> None:
    assert (
        filters.address(host("web1", _channelbox_node={"address": "10.0.0.1"}, ansible_host="192.0.2.1")) == "10.0.0.1"
    )
    assert filters.address(host("web1", channelbox_address="10.0.0.2", ansible_host="192.0.2.1")) == "10.0.0.2"
    assert filters.address(host("web1", ansible_host="2001:db8::1")) == "2001:db8::1"
    assert filters.address(host("web1", ansible_host="web1.example.org")) == ""


def test_people_reach_a_balancer_by_name_and_by_address() -> None:
    balancers = [host("lb1", ansible_host="lb1.example.org", channelbox_address="192.0.2.1"), host("192.0.2.2")]
    assert filters.names(balancers) == ["lb1", "lb1.example.org", "192.0.2.1", "192.0.2.2"]


def test_a_certificate_tells_addresses_from_names() -> None:
    assert filters.subject_names(["chat", "192.0.2.1", "2001:db8::1"]) == "DNS:chat,IP:192.0.2.1,IP:2001:db8::1"


@pytest.mark.parametrize(
    "value", ["", "plain", "a b", 'say "hi"', "100 % & $HOME `id` \\ ; #", "redis://:pw@[::1]:1/0"]
)
def test_the_application_reads_a_setting_as_it_was_meant(value: str) -> None:
    assert parse(f"NAME={filters.env_value(value)}\n") == {"NAME": value}


def test_a_flag_is_written_as_the_application_reads_it() -> None:
    assert (filters.env_value(True), filters.env_value(False)) == ("true", "false")


def test_clocks_are_off_only_if_the_way_to_them_does_not_explain_it() -> None:
    def reading(name: str, low: float, high: float) -> dict[str, Any]:
        return host(name, _channelbox_node={"clock": {"low": low, "high": high}})

    assert filters.clock_skew([reading("a", -0.1, 0.1), reading("b", 0.0, 3.0)]) == []
    (sentence,) = filters.clock_skew([reading("a", -0.1, 0.1), reading("b", 1.2, 1.4)])
    assert sentence == "The clock of b is 1.1 s ahead of a's"


def test_a_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    first = secret("redis_password", folder)
    assert first == secret("redis_password", folder)
    assert len(first) >= 50
    assert stat.S_IMODE((folder / "redis_password").stat().st_mode) == 0o600
    assert [entry.name for entry in folder.iterdir()] == ["redis_password"]


def test_check_mode_keeps_no_secret(tmp_path: Path) -> None:
    assert secret("secret_key", tmp_path, keep=False)
    assert list(tmp_path.iterdir()) == []


def test_a_secret_that_was_emptied_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch()
    with pytest.raises(AnsibleLookupError, match="Restore it from your backup"):
        secret("secret_key", tmp_path)
