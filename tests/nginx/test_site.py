"""The nginx sites of the package and of the role: the limits of a client, and the responses of nginx itself."""

import json
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.nginx.application import Application
from tests.nginx.conftest import TRUSTING, Endpoint
from tests.nginx.serving import PACKAGED, Nginx, certificate, moved, packaged_site, role_sites
from tests.nginx.test_balancing import UPGRADE
from tests.support.servers import free_port
from tests.support.waiting import until

ALICE, BOB = "192.0.2.1", "192.0.2.2"
LOW_RATES = {
    r"rate=\d+r/s": "rate=1r/m",
    r"burst=\d+": "burst=4",
}
FEW_CONNECTIONS = {r"(limit_conn channelbox_open_\w+) \d+": r"\1 3"}
NO_PROCESS = {r"unix:[^; ]+": "unix:/nonexistent.sock"}
AS_SHIPPED: dict[str, str] = {}
# Lets tests choose the client's address: limits use the address that nginx assumes, whatever its source.
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
    """The site of a single node with its shipped limits, its port, the application behind it, and its folder."""
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
def endpoint(site: tuple[str, int, Application, Path], request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    """A running nginx with other limits, by default five requests at once and hardly any more later."""
    text, port, _, folder = site
    for pattern, number in getattr(request, "param", LOW_RATES).items():
        assert re.search(pattern, text)
        text = re.sub(pattern, number, text)
    nginx = Nginx(folder / "nginx", text, port)
    nginx.start()
    yield Endpoint("127.0.0.1", port)
    nginx.stop()


def request_statuses(endpoint: Endpoint, path: str, count: int, client: str, **more: str) -> list[int]:
    return [endpoint.ask(path, X_Claimed=client, **more).status for _ in range(count)]


def test_page_limit_applies_to_each_client_separately(endpoint: Endpoint) -> None:
    assert request_statuses(endpoint, "/chat/", 8, ALICE) == [200] * 5 + [429] * 3
    assert request_statuses(endpoint, "/chat/api/rooms", 1, ALICE) == [429]
    assert request_statuses(endpoint, "/chat/", 5, BOB) == [200] * 5


def test_a_refusal_has_retry_after_and_a_page_or_json(endpoint: Endpoint) -> None:
    request_statuses(endpoint, "/chat/", 5, ALICE)
    page = endpoint.ask("/chat/", X_Claimed=ALICE)
    assert (page.status, page.headers["content-type"]) == (429, "text/html")
    assert int(page.headers["retry-after"]) > 0
    assert b"Too many requests from your address" in page.body and b"nginx" not in page.body
    assert b"Wait a few seconds, then load this page again." in page.body
    program = endpoint.ask("/chat/api/rooms", X_Claimed=ALICE)
    assert (program.status, program.headers["content-type"]) == (429, "application/json")
    assert int(program.headers["retry-after"]) > 0
    body = json.loads(program.body)
    assert body["error"] == "Too many requests from your address. Try again in 5 s."
    assert (body["code"], str(body["retry_after"])) == ("too_fast", program.headers["retry-after"])
    handshake = [endpoint.ask("/ws/chat/lobby/", X_Claimed=ALICE) for _ in range(6)][-1]
    assert (handshake.status, int(handshake.headers["retry-after"])) == (429, 5)


def test_static_files_do_not_count_for_the_page_limit(endpoint: Endpoint) -> None:
    assert request_statuses(endpoint, "/static/file.js", FILES, ALICE) == [200] * FILES
    assert request_statuses(endpoint, "/chat/", 5, ALICE) == [200] * 5


def test_handshakes_have_a_limit_separate_from_pages(endpoint: Endpoint) -> None:
    assert request_statuses(endpoint, "/chat/", 6, ALICE)[-1] == 429
    assert request_statuses(endpoint, "/ws/chat/lobby/", 6, ALICE) == [200] * 5 + [429]
    assert request_statuses(endpoint, "/accounts/login/", 1, ALICE) == [429]  # counts as a page


def test_sign_ins_are_queued_and_the_excess_is_refused(site: tuple[str, int, Application, Path]) -> None:
    """One a second is admitted, two more wait, and only the excess is refused."""
    text, port, application, folder = site
    text = re.sub(r"(zone=channelbox_sign_ins) burst=\d+", r"\1 burst=2", text)
    text = re.sub(r"(zone=channelbox_sign_ins:\w+) rate=\d+r/s", r"\1 rate=1r/s", text)
    nginx = Nginx(folder / "nginx", text, port)
    nginx.start()
    try:
        endpoint = Endpoint("127.0.0.1", port)
        connections = [endpoint.connection() for _ in range(6)]
        before = len(application.requests)
        for connection in connections:
            connection.request("POST", "/accounts/login/", b"username=alice", {"X-Claimed": ALICE})
        statuses = sorted(connection.getresponse().status for connection in connections)
        assert set(statuses) == {200, 429}
        assert statuses.count(200) == len(application.requests) - before >= 3
        assert endpoint.ask("/accounts/login/", X_Claimed=ALICE).status == 200  # loading the page is not a sign-in
    finally:
        nginx.stop()


def test_x_forwarded_for_of_clients_is_ignored(endpoint: Endpoint) -> None:
    answers = [endpoint.ask("/chat/", X_Claimed=ALICE, X_Forwarded_For=f"198.51.100.{n}").status for n in range(6)]
    assert answers == [200] * 5 + [429]


def test_an_ipv6_network_counts_as_one_client(endpoint: Endpoint) -> None:
    answers = [endpoint.ask("/chat/", X_Claimed=f"2001:db8:0:1:{n:x}::1").status for n in range(6)]
    assert answers == [200] * 5 + [429]
    assert request_statuses(endpoint, "/chat/", 5, "2001:db8:0:2::1") == [200] * 5


@pytest.mark.parametrize("endpoint", [FEW_CONNECTIONS], indirect=True)
async def test_open_websockets_count_until_they_are_closed(endpoint: Endpoint) -> None:
    held = [endpoint.connection() for _ in range(3)]
    headers = {**{name.replace("_", "-"): value for name, value in UPGRADE.items()}, "X-Claimed": ALICE}
    for connection in held:
        connection.request("GET", "/ws/chat/lobby/", headers=headers)
        assert connection.getresponse().status == 101
    assert request_statuses(endpoint, "/ws/chat/lobby/", 1, ALICE, **UPGRADE) == [429]
    assert request_statuses(endpoint, "/ws/chat/lobby/", 1, BOB, **UPGRADE) == [101]
    assert request_statuses(endpoint, "/chat/", 1, ALICE) == [200]
    for connection in held:
        connection.close()

    def has_free_slot() -> bool:
        return request_statuses(endpoint, "/ws/chat/lobby/", 1, ALICE, **UPGRADE) == [101]

    await until(has_free_slot)


@pytest.mark.parametrize("endpoint", [NO_PROCESS], indirect=True)
def test_ten_thousand_clients_behind_one_address_can_reconnect(endpoint: Endpoint) -> None:
    """Each may open a WebSocket and a page. As no process is running, nginx answers everything itself."""
    for path in ("/ws/chat/lobby/", "/chat/"):
        statuses = pipelined(endpoint, path, PEOPLE)
        assert len(statuses) == PEOPLE
        assert set(statuses) == {503}


@pytest.mark.parametrize("endpoint", [NO_PROCESS], indirect=True)
def test_without_a_process_pages_and_the_api_answer_503(endpoint: Endpoint) -> None:
    page = endpoint.ask("/chat/")
    assert page.status == 503
    assert int(page.headers["retry-after"]) > 0
    assert b"Not available at the moment" in page.body and b"nginx" not in page.body
    program = endpoint.ask("/chat/api/rooms")
    assert (program.status, json.loads(program.body)["code"]) == (503, "try_later")
    assert endpoint.ask("/ws/chat/lobby/", **UPGRADE).status == 503
    assert endpoint.ask("/accounts/login/", "POST", b"username=alice").status == 503


@pytest.mark.parametrize("endpoint", [AS_SHIPPED], indirect=True)
def test_invalid_responses_of_a_process_give_502(endpoint: Endpoint) -> None:
    for path in ("/chat/close", "/chat/garbage", "/location-40000"):
        page = endpoint.ask(path)
        assert page.status == 502
        assert b"No answer from the server" in page.body and b"nginx" not in page.body
    program = endpoint.ask("/chat/api/close")
    assert (program.status, json.loads(program.body)["code"]) == (502, "try_later")


@pytest.mark.parametrize("endpoint", [AS_SHIPPED], indirect=True)
def test_error_responses_of_the_application_are_kept(endpoint: Endpoint) -> None:
    for status in (429, 500, 502, 503, 504):
        answer = endpoint.ask(f"/chat/api/status-{status}")
        assert (answer.status, answer.headers["retry-after"]) == (status, "7")
        assert answer.body == b"the application's own words"


@pytest.mark.parametrize("endpoint", [AS_SHIPPED], indirect=True)
def test_the_longest_redirect_of_the_application_fits(endpoint: Endpoint) -> None:
    answer = endpoint.ask("/location-16384")
    assert (answer.status, len(answer.headers["location"])) == (302, 16384)


@pytest.mark.parametrize("endpoint", [AS_SHIPPED], indirect=True)
def test_overlong_requests_get_specific_statuses(endpoint: Endpoint) -> None:
    line = endpoint.ask("/chat/?" + "x" * 9000)
    header = endpoint.ask("/chat/", Cookie="x" * 9000)
    body = endpoint.ask("/accounts/login/", "POST", b"x" * 1_100_000)
    assert (line.status, header.status, body.status) == (414, 431, 413)
    for answer in (line, header, body):
        assert b"too long" in answer.body and b"nginx" not in answer.body
    assert endpoint.ask("/chat/?" + "x" * 7900, Cookie="x" * 7900).status == 200


def pipelined(endpoint: Endpoint, path: str, count: int) -> list[int]:
    """Send this many requests, 500 on each connection, and return the statuses."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    statuses: list[int] = []
    for _ in range(count // 500):
        with (
            socket.create_connection((endpoint.host, endpoint.port), 15) as plain,
            TRUSTING.wrap_socket(plain, server_hostname=endpoint.host) as connection,
        ):
            connection.sendall(request * 499 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            received = b""
            while more := connection.recv(65536):
                received += more
        statuses += [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", received)]
    return statuses
