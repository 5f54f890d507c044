"""Inventories that are refused by the controller alone, without connecting to a node."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from probe.site import site

TIERS = ("loadbalancer", "web", "worker", "redis", "postgresql")
Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Return a function that runs site.yml for hosts that do not exist, so anything but a refusal hangs or fails."""
    (tmp_path / "channelbox_0.1.0~deb12_amd64.deb").touch()

    def refused(*, cluster: dict[str, list[str]] | None = None, **variables: Any) -> str:
        groups = {tier: ["one"] for tier in TIERS} | (cluster or {})
        hosts = sorted({host for members in groups.values() for host in members})
        inventory: dict[str, Any] = {
            "all": {
                "hosts": {host: {"ansible_host": "192.0.2.1"} for host in hosts},
                "vars": {"channelbox_deb_dir": str(tmp_path), "channelbox_secrets_dir": str(tmp_path / "secrets")},
                "children": {group: {"hosts": {host: {} for host in members}} for group, members in groups.items()},
            }
        }
        inventory["all"]["vars"] |= variables
        path = tmp_path / "inventory.json"
        path.write_text(json.dumps(inventory))
        result = site(path)
        assert result.code != 0, result.output
        assert "Gather facts about the node" not in result.output
        assert not (tmp_path / "secrets").exists()
        return result.words

    return refused


def test_a_misspelt_variable_is_refused_with_a_suggestion(refused: Refused) -> None:
    output = refused(channelbox_gests=True, channelbox_settings={"CHANNELBOX_ROOM_LIMITS": 10})
    assert "channelbox_gests is not a setting of channelbox. Did you mean channelbox_guests?" in output
    assert "CHANNELBOX_ROOM_LIMITS is not a setting of channelbox. Did you mean CHANNELBOX_ROOM_LIMIT?" in output


def test_an_unknown_variable_is_refused(refused: Refused) -> None:
    output = refused(channelbox_frobnicate=1)
    assert "channelbox_frobnicate is not a setting of channelbox." in output


def test_a_value_of_the_wrong_kind_is_refused(refused: Refused) -> None:
    assert "channelbox_web_instances" in refused(channelbox_web_instances="many")


def test_a_number_that_is_too_small_is_refused(refused: Refused) -> None:
    output = refused(channelbox_web_instances=0, channelbox_nginx_connections="10", channelbox_redis_memory_mb=-1)
    assert "channelbox_web_instances is 0 on one. Set it to 1 or more." in output
    assert "channelbox_nginx_connections is 10 on one. Set it to 512 or more." in output
    assert "channelbox_redis_memory_mb is -1 on one. Set it to 32 or more." in output


def test_a_missing_group_is_refused(refused: Refused) -> None:
    output = refused(cluster={"redis": [], "worker": []})
    assert "The inventory has no host in the group worker, redis. Add one to each of" in output


def test_sqlite_with_more_than_one_node_is_refused(refused: Refused) -> None:
    output = refused(cluster={"web": ["one", "two"], "postgresql": []})
    assert "one, two cannot share a SQLite database. Add one host to the group postgresql." in output


def test_two_databases_and_two_redis_hosts_are_refused(refused: Refused) -> None:
    output = refused(cluster={"postgresql": ["one", "two"], "redis": ["one", "two"]})
    assert "The group postgresql has 2 hosts. It must have exactly one." in output
    assert "The group redis has 2 hosts. It must have one, or three" in output


def test_a_folder_without_packages_is_refused(refused: Refused, tmp_path: Path) -> None:
    output = refused(channelbox_deb_dir=str(tmp_path / "nowhere"))
    assert f"There is no channelbox_*.deb in {tmp_path / 'nowhere'}. Copy the packages there" in output


def test_a_certificate_without_its_key_is_refused(refused: Refused, tmp_path: Path) -> None:
    output = refused(channelbox_certificate=str(tmp_path / "missing.pem"))
    assert "Only one of channelbox_certificate and channelbox_certificate_key is set." in output
    assert f"Not found on this machine: {tmp_path / 'missing.pem'}." in output


def test_a_key_of_another_certificate_is_refused(refused: Refused, tmp_path: Path) -> None:
    for name in ("own", "another"):
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=chat"
        files = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run([*make.split(), *files], check=True, capture_output=True)
    certificate, key = tmp_path / "own.pem", tmp_path / "another.key"
    output = refused(channelbox_certificate=str(certificate), channelbox_certificate_key=str(key))
    assert f"{key} is not the private key of {certificate}" in output
    certificate.write_text("nothing")
    output = refused(channelbox_certificate=str(certificate), channelbox_certificate_key=str(key))
    assert f"{certificate} is not a certificate in PEM format." in output


def test_hosts_with_scheme_or_port_are_refused(refused: Refused) -> None:
    assert "channelbox_hosts must be a list of names and addresses" in refused(channelbox_hosts=["https://chat:8443"])
