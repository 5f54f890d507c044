"""Nodes that are refused: each refusal names the remedy, and nothing is changed."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from probe.nodes import Nodes
from probe.site import Run

Refused = Callable[..., str]


@pytest.fixture
def undo(nodes: Nodes) -> Iterator[Callable[[str, str], None]]:
    """Return a function that registers a command to run on a node after the test, to restore it."""
    with contextlib.ExitStack() as stack:

        def undo(node: str, command: str) -> None:
            stack.callback(nodes.root, node, command)

        yield undo


def test_suitable_nodes_are_accepted(run: Callable[..., Run]) -> None:
    result = run("--tags", "preflight")
    assert result.code == 0, result.output
    assert result.changed == {"door": 0, "data": 0}


def test_a_dry_run_on_bare_nodes_completes_and_changes_nothing(
    run: Callable[..., Run], written: Callable[[], dict[str, str]]
) -> None:
    before = written()
    result = run("--check", "--diff")
    assert result.code == 0, result.output
    assert "Check that the installation works" in result.output
    assert written() == before


def test_another_distribution_is_refused(nodes: Nodes, refused: Refused, undo: Callable[[str, str], None]) -> None:
    nodes.root("data", "mv /etc/os-release /etc/os-release.kept")
    undo("data", "mv /etc/os-release.kept /etc/os-release")
    nodes.root("data", "printf 'ID=ubuntu\\nVERSION_CODENAME=jammy\\n' > /etc/os-release")
    assert "data runs ubuntu jammy. Install Debian 12 (bookworm) or 13 (trixie) on it." in refused()


def test_another_release_is_refused(nodes: Nodes, refused: Refused, undo: Callable[[str, str], None]) -> None:
    nodes.root("data", "mv /etc/os-release /etc/os-release.kept")
    undo("data", "mv /etc/os-release.kept /etc/os-release")
    nodes.root("data", "sed s/trixie/bullseye/ /etc/os-release.kept > /etc/os-release")
    assert "data runs debian bullseye. Install Debian 12 (bookworm) or 13 (trixie) on it." in refused()


def test_too_little_memory_and_disk_are_refused(refused: Refused) -> None:
    output = refused(channelbox_minimum_memory_mb=10**8, channelbox_minimum_disk_mb=10**9)
    assert "MB of memory, but 100000000 MB are required. Add memory" in output
    assert "MB for /var, but 1000000000 MB are required in each. Free some space" in output


def test_a_port_taken_by_something_else_is_refused(
    nodes: Nodes, refused: Refused, undo: Callable[[str, str], None]
) -> None:
    nodes.root("door", "systemd-run --unit=intruder --service-type=exec python3 -m http.server 443")
    undo("door", "systemctl stop intruder")
    nodes.root("door", "timeout 10 sh -c 'until ss -Hltn sport = 443 | grep -q .; do sleep 0.1; done'")
    output = refused()
    assert "Port 443 is in use by python3. Free it for nginx: systemctl disable --now intruder.service" in output


def test_a_wrong_clock_is_refused(nodes: Nodes, refused: Refused, undo: Callable[[str, str], None]) -> None:
    # The nodes are containers and share one clock, so the command that reads it is replaced.
    nodes.root("data", r"""printf '#!/bin/sh\n/bin/date -d "+30 seconds" "$@"\n' > /usr/local/bin/date""")
    undo("data", "rm /usr/local/bin/date")
    nodes.root("data", "chmod 0755 /usr/local/bin/date")
    output = refused()
    assert "s ahead of door's. Synchronise the nodes with the same time server: set channelbox_ntp_servers" in output


def test_nodes_that_cannot_reach_each_other_are_refused(
    nodes: Nodes, refused: Refused, undo: Callable[[str, str], None]
) -> None:
    nodes.root("data", "nft add table inet wall")
    undo("data", "nft delete table inet wall")
    nodes.root("data", "nft 'add chain inet wall input { type filter hook input priority 0 ; }'")
    nodes.root("data", "nft add rule inet wall input tcp dport { 5432, 6379 } drop")
    output = refused()
    assert ":6379 is not reachable: no answer within 3 s. Open this port for" in output
    assert ":5432 is not reachable: no answer within 3 s. Open this port for" in output


def test_a_release_without_a_package_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "channelbox_0.1.0~deb12_amd64.deb").touch()
    output = refused(channelbox_deb_dir=str(tmp_path))
    assert "data runs trixie, but" in output
    assert "channelbox_*~deb13_amd64.deb. Copy it there, or build it with: make deb" in output
