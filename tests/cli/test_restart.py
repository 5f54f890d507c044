"""`channelbox restart` restarts one process after another, and stops at the first that fails.

The real systemd is tested in molecule/single; here a script replaces systemctl, so that it can give every answer.
"""

import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from channelbox.cli import restart as verb
from channelbox.cli.errors import CliError
from channelbox.cli.restart import Kind, restart

SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$(dirname "$0")/calls"
unit=$(for word; do last=$word; done; echo "$last")
case "$1" in
show) cat "$(dirname "$0")/units-$unit" ;;
restart)
    if [ "$unit" = "$(cat "$(dirname "$0")/hanging")" ]; then exec sleep 60; fi
    if grep -qx "$unit" "$(dirname "$0")/broken"; then
        echo "Job for $unit failed because a timeout was exceeded." >&2
        exit 1
    fi ;;
is-active) ! grep -qx "$unit" "$(dirname "$0")/ended" ;;
esac
"""


class Systemd:
    """Controls the answers of the script that replaces systemctl, and returns the calls that it received."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = folder / "systemctl"
        script.write_text(SYSTEMCTL)
        script.chmod(0o755)
        self.broken("")
        self.ended("")
        self.hanging("")
        self.has("web")
        self.has("worker")

    def has(self, kind: str, **states: str) -> None:
        blocks = [f"Id=channelbox-{kind}@{name[1:]}.service\nActiveState={state}" for name, state in states.items()]
        (self.folder / f"units-channelbox-{kind}@*.service").write_text("\n\n".join(blocks) + "\n")

    def broken(self, unit: str) -> None:
        (self.folder / "broken").write_text(unit)

    def ended(self, unit: str) -> None:
        (self.folder / "ended").write_text(unit)

    def hanging(self, unit: str) -> None:
        (self.folder / "hanging").write_text(unit)

    @property
    def restarted(self) -> list[str]:
        calls = (self.folder / "calls").read_text().splitlines()
        units = [call.split()[-1] for call in calls if call.startswith("restart ")]
        return [unit.removeprefix("channelbox-").removesuffix(".service") for unit in units]


class Answer(socketserver.StreamRequestHandler):
    """Answers with 400, as an installation does for a host name that is not its own."""

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return Systemd(tmp_path)


@pytest.fixture
def web_socket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Serve pages on the socket of the web processes. The returned function removes the socket."""
    with tempfile.TemporaryDirectory(prefix="channelbox-") as folder:
        path = Path(folder) / "web.sock"
        monkeypatch.setattr(verb, "WEB_SOCKET", path)
        with socketserver.ThreadingUnixStreamServer(str(path), Answer) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield lambda: path.unlink()
            server.shutdown()


@pytest.mark.usefixtures("web_socket")
def test_units_are_restarted_one_by_one_running_ones_first(
    systemd: Systemd, capsys: pytest.CaptureFixture[str]
) -> None:
    systemd.has("web", _10="active", _2="active", _1="activating", _3="inactive")
    systemd.has("worker", _1="active")
    restart(Kind.all)
    assert systemd.restarted == ["web@2", "web@10", "web@1", "worker@1"]
    assert "channelbox-web@10.service is back (2 of 4)." in capsys.readouterr().out


def test_only_units_of_the_given_kind_are_restarted(systemd: Systemd) -> None:
    systemd.has("web", _1="active")
    systemd.has("worker", _1="active", _2="active")
    restart(Kind.worker)
    assert systemd.restarted == ["worker@1", "worker@2"]


@pytest.mark.usefixtures("web_socket")
def test_restart_stops_at_the_first_unit_that_fails_to_restart(systemd: Systemd) -> None:
    systemd.has("web", _1="active", _2="active", _3="active")
    systemd.broken("channelbox-web@2.service")
    with pytest.raises(CliError) as raised:
        restart(Kind.web)
    assert systemd.restarted == ["web@1", "web@2"]
    assert "channelbox-web@2.service did not come back: Job for" in raised.value.sentence
    assert "Not restarted: channelbox-web@3.service." in raised.value.sentence
    assert "journalctl -u channelbox-web@2.service" in raised.value.remedy


def test_restart_stops_when_a_unit_ends_after_it_was_ready(systemd: Systemd) -> None:
    systemd.has("worker", _1="active", _2="active")
    systemd.ended("channelbox-worker@1.service")
    with pytest.raises(CliError, match="it became ready, but then ended"):
        restart(Kind.worker)
    assert systemd.restarted == ["worker@1"]


def test_restart_stops_when_the_web_socket_does_not_answer(
    systemd: Systemd, web_socket: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    web_socket()
    monkeypatch.setattr(verb, "ANSWER_SECONDS", 0.3)
    systemd.has("web", _1="active", _2="active")
    with pytest.raises(CliError, match="no process answers"):
        restart(Kind.web)
    assert systemd.restarted == ["web@1"]


def test_restart_stops_when_a_unit_does_not_become_ready(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "READY_SECONDS", 0.5)
    systemd.has("worker", _1="active", _2="active")
    systemd.hanging("channelbox-worker@1.service")
    with pytest.raises(CliError, match="it is not ready after"):
        restart(Kind.worker)
    assert systemd.restarted == ["worker@1"]


def test_restart_reports_that_no_process_is_running(systemd: Systemd, capsys: pytest.CaptureFixture[str]) -> None:
    restart(Kind.all)
    assert capsys.readouterr().out == "No web or worker process is running on this node.\n"


def test_restart_requires_root(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(CliError, match="must run as root"):
        restart(Kind.all)
