"""The package's site and the role's at the door: what one client is given, and what nginx itself answers."""

import json
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.nginx.application import Application
from tests.nginx.conftest import TRUSTING, Door
from tests.nginx.serving import PACKAGED, Nginx, certificate, moved, packaged_site, role_sites
from tests.nginx.test_balancing import UPGRADE
from tests.support.servers import free_port
from tests.support.waiting import until

ALICE, BOB = "192.0.2.1", "192.0.2.2"
FEW = {
    r"rate=\d+r/s": "rate=1r/m",
    r"burst=\d+": "burst=4",
}
FEW_OPEN = {r"(limit_conn channelbox_open_\w+) \d+": r"\1 3"}
NOBODY = {r"unix:[^; ]+": "unix:/nonexistent.sock"}
AS_SHIPPED: dict[str, str] = {}
# Addresses as the tests claim them: limits count what nginx holds for the client's address, whatever it got it from.
CLAIMED = "set_real_ip_from 127.0.0.1; real_ip_header X-Claimed;\n"
PEOPLE = 10_000
FILES = 12


def role_site(folder: Path, port: int, upstream: str) -> str:
    role_sites(folder, {"loadbalancer": ["box"], "web": ["box"]}, {"box": "127.0.0.1"})
    paths = {
        "unix:/run/channelbox/web.sock": upstream,
        "/etc/channelbox/tls": str(folder),
        "/etc/nginx/channelbox-errors": str(PACKAGED / "errors"),
    }
    return moved((folder / "box.conf").read_text(), "127.0.0.1", {80: free_port(), 443: port}, paths)


@pytest.fixture(scope="module", params=[packaged_site, role_site], ids=["package", "role"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int, Application, Path]]:
    """The site of a single node with its numbers as they are shipped, the port and what is behind it."""
    folder, port = tmp_path_factory.mktemp("site"), free_port()
    certificate(folder)
    with tempfile.TemporaryDirectory(prefix="limits-") as runtime, ExitStack() as stack:
        application = stack.enter_context(Application(Path(runtime) / "web.sock", "box").serving())
        static = folder / "static"
        static.mkdir()
        (static / "file.js").write_text("1")
        text = request.param(folder, port, f"unix:{application.path}")
        (folder / "site.conf").write_text(text)
        for part in (folder / "site.conf", folder / "locations.conf"):
            if part.exists():
                part.write_text(part.read_text().replace("/usr/share/channelbox/static", str(static)))
        yield CLAIMED + (folder / "site.conf").read_text(), port, application, folder


@pytest.fixture
def door(site: tuple[str, int, Application, Path], request: pytest.FixtureRequest) -> Iterator[Door]:
    """The site with other numbers, by default five requests at once and hardly any more later."""
    text, port, _, folder = site
    for pattern, number in getattr(request, "param", FEW).items():
        assert re.search(pattern, text)
        text = re.sub(pattern, number, text)
    nginx = Nginx(folder / "nginx", text, port)
    nginx.start()
    yield Door("127.0.0.1", port)
    nginx.stop()


def asked(door: Door, path: str, count: int, client: str, **more: str) -> list[int]:
    return [door.ask(path, X_Claimed=client, **more).status for _ in range(count)]


def test_more_pages_than_one_client_is_given_are_refused_and_others_get_theirs(door: Door) -> None:
    assert asked(door, "/chat/", 8, ALICE) == [200] * 5 + [429] * 3
    assert asked(door, "/chat/api/rooms", 1, ALICE) == [429]
    assert asked(door, "/chat/", 5, BOB) == [200] * 5


def test_a_refusal_says_when_to_come_again(door: Door) -> None:
    asked(door, "/chat/", 5, ALICE)
    page = door.ask("/chat/", X_Claimed=ALICE)
    assert (page.status, page.headers["content-type"]) == (429, "text/html")
    assert int(page.headers["retry-after"]) > 0
    assert b"Too many requests from your address" in page.body and b"nginx" not in page.body
    assert b"Wait a few seconds, then load this page again." in page.body
    program = door.ask("/chat/api/rooms", X_Claimed=ALICE)
    assert (program.status, program.headers["content-type"]) == (429, "application/json")
    assert int(program.headers["retry-after"]) > 0
    told = json.loads(program.body)
    assert told["error"] == "Too many requests from your address. Try again in 5 s."
    assert (told["code"], str(told["retry_after"])) == ("too_fast", program.headers["retry-after"])
    handshake = [door.ask("/ws/chat/lobby/", X_Claimed=ALICE) for _ in range(6)][-1]
    assert (handshake.status, int(handshake.headers["retry-after"])) == (429, 5)


def test_files_are_not_counted(door: Door) -> None:
    assert asked(door, "/static/file.js", FILES, ALICE) == [200] * FILES
    assert asked(door, "/chat/", 5, ALICE) == [200] * 5


def test_handshakes_and_passwords_are_counted_apart(door: Door) -> None:
    assert asked(door, "/chat/", 6, ALICE)[-1] == 429
    assert asked(door, "/ws/chat/lobby/", 6, ALICE) == [200] * 5 + [429]
    assert asked(door, "/accounts/login/", 1, ALICE) == [429]  # the page


def test_passwords_wait_for_their_turn(site: tuple[str, int, Application, Path]) -> None:
    """One a second is given: two more wait, and only what is beyond them is refused."""
    text, port, application, folder = site
    text = re.sub(r"(zone=channelbox_sign_ins) burst=\d+", r"\1 burst=2", text)
    text = re.sub(r"(zone=channelbox_sign_ins:\w+) rate=\d+r/s", r"\1 rate=1r/s", text)
    nginx = Nginx(folder / "nginx", text, port)
    nginx.start()
    try:
        door = Door("127.0.0.1", port)
        connections = [door.connection() for _ in range(6)]
        before = len(application.requests)
        for connection in connections:
            connection.request("POST", "/accounts/login/", b"username=alice", {"X-Claimed": ALICE})
        statuses = sorted(connection.getresponse().status for connection in connections)
        assert set(statuses) == {200, 429}
        assert statuses.count(200) == len(application.requests) - before >= 3
        assert door.ask("/accounts/login/", X_Claimed=ALICE).status == 200  # the page is none
    finally:
        nginx.stop()


def test_forwarded_addresses_that_a_client_claims_do_not_count(door: Door) -> None:
    answers = [door.ask("/chat/", X_Claimed=ALICE, X_Forwarded_For=f"198.51.100.{n}").status for n in range(6)]
    assert answers == [200] * 5 + [429]


def test_one_network_of_ipv6_counts_as_one_client(door: Door) -> None:
    answers = [door.ask("/chat/", X_Claimed=f"2001:db8:0:1:{n:x}::1").status for n in range(6)]
    assert answers == [200] * 5 + [429]
    assert asked(door, "/chat/", 5, "2001:db8:0:2::1") == [200] * 5


@pytest.mark.parametrize("door", [FEW_OPEN], indirect=True)
async def test_sockets_that_are_open_are_counted_until_they_are_closed(door: Door) -> None:
    held = [door.connection() for _ in range(3)]
    headers = {**{name.replace("_", "-"): value for name, value in UPGRADE.items()}, "X-Claimed": ALICE}
    for connection in held:
        connection.request("GET", "/ws/chat/lobby/", headers=headers)
        assert connection.getresponse().status == 101
    assert asked(door, "/ws/chat/lobby/", 1, ALICE, **UPGRADE) == [429]
    assert asked(door, "/ws/chat/lobby/", 1, BOB, **UPGRADE) == [101]
    assert asked(door, "/chat/", 1, ALICE) == [200]
    for connection in held:
        connection.close()

    def free() -> bool:
        return asked(door, "/ws/chat/lobby/", 1, ALICE, **UPGRADE) == [101]

    await until(free)


@pytest.mark.parametrize("door", [NOBODY], indirect=True)
def test_ten_thousand_people_behind_one_address_come_back_together(door: Door) -> None:
    """A socket and a page for each, and none of it is too much. With nobody behind it, nginx answers all by itself."""
    for path in ("/ws/chat/lobby/", "/chat/"):
        statuses = pipelined(door, path, PEOPLE)
        assert len(statuses) == PEOPLE
        assert set(statuses) == {503}


@pytest.mark.parametrize("door", [NOBODY], indirect=True)
def test_without_a_process_people_and_programs_are_told_to_come_again(door: Door) -> None:
    page = door.ask("/chat/")
    assert page.status == 503
    assert int(page.headers["retry-after"]) > 0
    assert b"Not available at the moment" in page.body and b"nginx" not in page.body
    program = door.ask("/chat/api/rooms")
    assert (program.status, json.loads(program.body)["code"]) == (503, "try_later")
    assert door.ask("/ws/chat/lobby/", **UPGRADE).status == 503
    assert door.ask("/accounts/login/", "POST", b"username=alice").status == 503


@pytest.mark.parametrize("door", [AS_SHIPPED], indirect=True)
def test_a_process_that_does_not_answer_is_told_with_502(door: Door) -> None:
    for path in ("/chat/close", "/chat/garbage", "/location-40000"):
        page = door.ask(path)
        assert page.status == 502
        assert b"No answer from the server" in page.body and b"nginx" not in page.body
    program = door.ask("/chat/api/close")
    assert (program.status, json.loads(program.body)["code"]) == (502, "try_later")


@pytest.mark.parametrize("door", [AS_SHIPPED], indirect=True)
def test_the_applications_own_words_stay(door: Door) -> None:
    for status in (429, 500, 502, 503, 504):
        answer = door.ask(f"/chat/api/status-{status}")
        assert (answer.status, answer.headers["retry-after"]) == (status, "7")
        assert answer.body == b"the application's own words"


@pytest.mark.parametrize("door", [AS_SHIPPED], indirect=True)
def test_the_longest_redirect_of_the_application_fits(door: Door) -> None:
    answer = door.ask("/location-16384")
    assert (answer.status, len(answer.headers["location"])) == (302, 16384)


@pytest.mark.parametrize("door", [AS_SHIPPED], indirect=True)
def test_what_is_too_long_is_told_by_its_status(door: Door) -> None:
    line = door.ask("/chat/?" + "x" * 9000)
    header = door.ask("/chat/", Cookie="x" * 9000)
    body = door.ask("/accounts/login/", "POST", b"x" * 1_100_000)
    assert (line.status, header.status, body.status) == (414, 431, 413)
    for answer in (line, header, body):
        assert b"too long" in answer.body and b"nginx" not in answer.body
    assert door.ask("/chat/?" + "x" * 7900, Cookie="x" * 7900).status == 200


def pipelined(door: Door, path: str, count: int) -> list[int]:
    """The statuses of that many requests, 500 on each connection."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    statuses: list[int] = []
    for _ in range(count // 500):
        with (
            socket.create_connection((door.host, door.port), 15) as plain,
            TRUSTING.wrap_socket(plain, server_hostname=door.host) as connection,
        ):
            connection.sendall(request * 499 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            received = b""
            while more := connection.recv(65536):
                received += more
        statuses += [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", received)]
    return statuses
