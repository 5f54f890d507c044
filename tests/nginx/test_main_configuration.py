"""The copy of nginx.conf with which nginx.service starts nginx: only the number of connections is raised."""

import http.client
import re
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.servers import free_port
from tests.support.waiting import until

DEBIAN_FOLDER = Path(__file__).parents[2] / "packaging/debian"
PROGRAM = DEBIAN_FOLDER / "nginx-conf"
DROPIN = DEBIAN_FOLDER / "units/nginx.service.d/00-channelbox.conf"
PID = "pid nginx.pid;\n"
DEBIAN = f"""\
user www-data;
{PID}include modules-enabled/*.conf;

events {{
\tworker_connections 768;
\t# multi_accept on; worker_connections 5;
}}

http {{
\tinclude sites-enabled/*;
}}
"""
ANSWERS = """\
{pid}error_log {etc}/error.log;
events {{ worker_connections 768; }}
http {{
    access_log off;
    client_body_temp_path {etc}/body;
    proxy_temp_path {etc}/proxy;
    fastcgi_temp_path {etc}/fastcgi;
    uwsgi_temp_path {etc}/uwsgi;
    scgi_temp_path {etc}/scgi;
    server {{ listen 127.0.0.1:{port}; return 200 {said}; }}
}}
"""
REFUSED = "events { worker_connections 9; } nonsense;\n"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "sites-enabled").mkdir()
    (tmp_path / "sites-enabled/channelbox").touch()
    return tmp_path


def copy(etc: Path, text: str) -> subprocess.CompletedProcess[str]:
    (etc / "nginx.conf").write_text(text)
    done = subprocess.run([PROGRAM, etc], capture_output=True, text=True, check=False)
    assert (etc / "nginx.conf").read_text() == text
    assert not (etc / "channelbox-nginx.conf.new").is_file()
    return done


def copied(etc: Path, text: str) -> str:
    done = copy(etc, text)
    assert done.returncode == 0, done.stderr
    return (etc / "channelbox-nginx.conf").read_text()


def test_the_copy_differs_only_in_worker_connections(etc: Path) -> None:
    assert copied(etc, DEBIAN) == re.sub(r"\b768\b", str(minimum_connections()), DEBIAN)


def minimum_connections() -> int:
    return int(re.findall(r"^CONNECTIONS=(\d+)$", PROGRAM.read_text(), re.MULTILINE)[0])


@pytest.mark.parametrize("line", ["events { worker_connections 1024; }", "events {\n  worker_connections\t99 ;\n}"])
def test_worker_connections_are_found_in_any_formatting(etc: Path, line: str) -> None:
    number = "1024" if "1024" in line else "99"
    before = f"{PID}worker_rlimit_nofile 768;\n"
    assert copied(etc, f"{before}{line}\n") == f"{before}{line.replace(number, str(minimum_connections()))}\n"


@pytest.mark.parametrize("text", [DEBIAN.replace("768", "100000"), f"{PID}events {{}}"])
def test_larger_or_missing_values_are_kept(etc: Path, text: str) -> None:
    assert copied(etc, text).rstrip("\n") == text.rstrip("\n")


def test_without_the_enabled_site_the_copy_is_identical(etc: Path) -> None:
    (etc / "sites-enabled/channelbox").unlink()
    assert copied(etc, DEBIAN) == DEBIAN


def test_an_invalid_configuration_is_reported_and_the_last_copy_kept(etc: Path) -> None:
    last = copied(etc, DEBIAN)
    done = copy(etc, REFUSED)
    assert done.returncode == 1
    assert 'unknown directive "nonsense"' in done.stderr
    assert (etc / "channelbox-nginx.conf").read_text() == last


def test_the_last_copy_is_used_if_no_new_one_can_be_written(etc: Path) -> None:
    last = copied(etc, DEBIAN)
    (etc / "channelbox-nginx.conf.new").mkdir()  # has the effect of a full disk
    done = copy(etc, DEBIAN.replace("768", "70000"))
    assert done.returncode == 0
    assert "nginx uses the last one" in done.stderr
    assert (etc / "channelbox-nginx.conf").read_text() == last


def test_failing_to_write_the_first_copy_is_an_error(etc: Path) -> None:
    (etc / "channelbox-nginx.conf.new").mkdir()
    assert copy(etc, DEBIAN).returncode == 1


def test_concurrent_runs_do_not_interfere(etc: Path) -> None:
    """This happens if nginx.conf is written and nginx is reloaded at the same time."""
    (etc / "nginx.conf").write_text(DEBIAN)
    for _ in range(3):
        running = [subprocess.Popen([PROGRAM, etc]) for _ in range(8)]
        assert [process.wait() for process in running] == [0] * 8


class Unit:
    """nginx, started and reloaded by the commands of the drop-in, with its own folder."""

    def __init__(self, etc: Path) -> None:
        self.etc = etc
        self.port = free_port()

    def commands(self, name: str) -> list[list[str]]:
        words = {
            "/usr/lib/channelbox/nginx-conf": [str(PROGRAM), str(self.etc)],
            "/usr/sbin/nginx": ["nginx", "-e", str(self.etc / "error.log"), "-p", str(self.etc)],
        }
        lines = re.findall(rf"^{name}=(.+)$", DROPIN.read_text(), re.MULTILINE)
        found = []
        for program, *rest in map(shlex.split, lines):
            found.append([*words[program], *(word.replace("/etc/nginx", str(self.etc)) for word in rest)])
        return found

    def run(self, name: str) -> bool:
        """Run these commands until one fails, as systemd does. Return whether all succeeded."""
        return all(subprocess.run(command, check=False).returncode == 0 for command in self.commands(name))

    @contextmanager
    def running(self) -> Iterator[None]:
        assert self.run("ExecStartPre")
        (command,) = self.commands("ExecStart")
        with subprocess.Popen([word.replace("daemon on", "daemon off") for word in command]) as process:
            try:
                yield
            finally:
                process.terminate()

    def configure(self, said: str) -> None:
        text = ANSWERS.format(etc=self.etc, port=self.port, said=said, pid=f"pid {self.etc}/nginx.pid;\n")
        (self.etc / "nginx.conf").write_text(text)

    def response(self) -> str:
        """Return nginx's response, or an empty string while it does not listen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request("GET", "/", headers={"Connection": "close"})
            return connection.getresponse().read().decode()
        except ConnectionRefusedError:
            return ""
        finally:
            connection.close()


def accepts(configuration: Path) -> bool:
    """Return whether nginx accepts this configuration."""
    command = ["nginx", "-e", str(configuration.parent / "error.log"), "-c", str(configuration), "-t", "-q"]
    return subprocess.run(command, check=False).returncode == 0


@pytest.fixture
async def unit(etc: Path) -> AsyncIterator[Unit]:
    unit = Unit(etc)
    unit.configure("first")
    with unit.running():
        await until(lambda: unit.response() == "first")
        yield unit


async def test_changes_of_nginx_conf_take_effect_on_reload(unit: Unit) -> None:
    unit.configure("second")
    assert unit.run("ExecReload")
    await until(lambda: unit.response() == "second")


async def test_an_invalid_reload_fails_and_nginx_keeps_running(unit: Unit) -> None:
    (unit.etc / "nginx.conf").write_text(REFUSED)
    assert not unit.run("ExecReload")
    assert unit.response() == "first"
    # A reload by other means reads the last good copy.
    assert accepts(unit.etc / "channelbox-nginx.conf")
    assert not unit.run("ExecStartPre")
    unit.configure("second")
    assert unit.run("ExecReload")
    await until(lambda: unit.response() == "second")
