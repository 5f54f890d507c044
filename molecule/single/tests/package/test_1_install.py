"""The result of installing the package alone on a bare Debian."""

import pytest
from probe.nodes import Nodes
from testinfra.host import Host

BYTE_CODE = """
import importlib.util
import pathlib
import sys

wrong = []
sources = list(pathlib.Path(sys.prefix).rglob("*.py"))
for source in sources:
    compiled = pathlib.Path(importlib.util.cache_from_source(str(source)))
    head = compiled.read_bytes()[:16] if compiled.exists() else b""
    # Compiled by this Python from exactly this source, identified by its hash instead of its time.
    expected = importlib.util.MAGIC_NUMBER + b"\\1\\0\\0\\0" + importlib.util.source_hash(source.read_bytes())
    if head != expected:
        wrong.append(str(source))
print(len(sources), *wrong)
"""

SERVICES = ["channelbox-web@1.service", "channelbox-worker@1.service", "channelbox-redis.service"]


def test_installation_prints_the_address_and_the_password_command(box: Host) -> None:
    log = box.file("/root/install.log").content_string
    assert "https://" in log
    assert "channelbox first-password" in log


@pytest.mark.parametrize("unit", [*SERVICES, "channelbox.target", "channelbox-web.socket", "nginx.service"])
def test_units_are_running_and_enabled(box: Host, unit: str) -> None:
    assert box.service(unit).is_running
    assert box.service(unit).is_enabled


def test_systemd_reports_no_failed_unit(nodes: Nodes) -> None:
    assert nodes.root("box", "systemctl is-system-running").strip() == "running"


def test_every_module_has_valid_byte_code(nodes: Nodes) -> None:
    """The service may not write there, so each start would compile again any module without usable byte code."""
    shown = nodes.root("box", f"runuser -u channelbox -- /opt/venvs/channelbox/bin/python - <<'END'\n{BYTE_CODE}\nEND")
    count, *wrong = shown.split()
    assert int(count) > 1000
    assert wrong == []


def test_check_finds_nothing_wrong(nodes: Nodes) -> None:
    nodes.root("box", "channelbox check")


def test_secrets_are_readable_only_by_root_and_the_service(box: Host) -> None:
    settings = box.file("/etc/channelbox/channelbox.env")
    assert (settings.user, settings.group, settings.mode) == ("root", "channelbox", 0o640)
    key = box.file("/etc/channelbox/tls/key.pem")
    assert key.user == "root"
    assert key.mode & 0o077 == 0


def test_only_nginx_listens_on_the_network(nodes: Nodes) -> None:
    listening = nodes.root("box", "ss --no-header --listening --tcp --numeric --processes")
    ours = [line for line in listening.splitlines() if "sshd" not in line and "127.0.0." not in line]
    assert ours
    assert all("nginx" in line for line in ours), listening
