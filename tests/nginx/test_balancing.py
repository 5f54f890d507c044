"""Nothing that a client sends takes a web node out of the balancer; what befalls the node does, while it lasts."""

import contextlib
import http.client
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.nginx.conftest import Cluster, Layout
from tests.support.waiting import until

NOBODY = 504
"""A node's word to its balancer that no process accepted; no application says this."""

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
ODD = {
    "an upgrade that is closed without an answer": ("/ws/chat/close", UPGRADE, {502}),
    "an upgrade with a body that is closed": ("/ws/chat/close", {**UPGRADE, "Content_Length": "5"}, {502}),
    "a page that is closed without an answer": ("/chat/close", {}, {502}),
    "a health check that is closed": ("/healthz/../close", {}, {502}),
    "a redirect of 5 KB": ("/location-5000", {}, {302}),
    "a redirect of 16 KB": ("/location-16384", {}, {302}),
    "a redirect as long as a node's buffer": ("/location-32650", {}, {302, 502}),
    "a redirect too long for any buffer": ("/location-70000", {}, {502}),
    "a redirect of 5 KB where sockets are": ("/ws/location-5000", {}, {302, 502}),
    "a redirect as long as a socket's buffer": ("/ws/location-4020", {}, {302, 502}),
    "an answer that is no HTTP": ("/chat/garbage", {}, {502}),
    "the application's own 500": ("/chat/status-500", {}, {500}),
    "the application's own 502": ("/chat/status-502", {}, {502}),
    "the application's own 503": ("/chat/status-503", {}, {503}),
    "the application's own 503 to a handshake": ("/ws/status-503", UPGRADE, {503}),
    "the application's own 504": ("/chat/status-504", {}, {502}),
    "the application's own 429": ("/chat/status-429", {}, {429}),
    "a file that there is not": ("/static/nothing.js", {}, {404}),
    "a long line": ("/" + "x" * 9000, {}, {414}),
    "a long header": ("/chat/", {"X_Long": "x" * 9000}, {431}),
    "many headers": ("/chat/", {f"X_{number}": "x" * 4000 for number in range(12)}, {431}),
    "as much as is let through": ("/chat/" + "x" * 7900, {f"X_{number}": "x" * 7900 for number in range(3)}, {200}),
    "a method that there is not": ("/chat/", {}, {200}),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_request_hurts_nobody_else(cluster: Cluster, others: Callable[..., None], odd: str) -> None:
    path, headers, statuses = ODD[odd]
    body = b"hello" if "Content_Length" in headers else b""
    method = "BREW" if "method" in odd else "GET"
    for _ in range(3):
        assert cluster.door.ask(path, method, body, **headers).status in statuses
        others(odd)


@pytest.mark.parametrize("cluster", [Layout(balancer="web1")], indirect=True)
def test_a_balancer_that_is_a_web_node_too_is_as_patient_with_itself(
    cluster: Cluster, others: Callable[..., None]
) -> None:
    for path in ("/chat/close", "/ws/chat/close", "/chat/garbage", "/location-40000", "/chat/status-503"):
        for _ in range(2):  # it and the other node
            assert cluster.door.ask(path).status == (503 if "503" in path else 502)
        others(path, 3)
    assert all(cluster.asked("/chat/").values())


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 501, 503])
def test_what_the_application_says_is_passed_on_in_its_own_words(
    cluster: Cluster, others: Callable[..., None], status: int, method: str
) -> None:
    path = f"/chat/api/status-{status}"
    for _ in range(3):
        answer = cluster.door.ask(path, method)
        assert (answer.status, answer.headers["retry-after"]) == (status, "7")
        assert answer.body == b"the application's own words"
        others(f"the application's own {status}")
    assert sum(cluster.asked(path).values()) == 3


def test_what_the_application_says_of_its_health_is_passed_on(cluster: Cluster, others: Callable[..., None]) -> None:
    for application in cluster.applications.values():
        application.well = False
    answer = cluster.door.ask("/healthz")
    assert (answer.status, answer.body) == (503, b"the application's own words")
    others("what the application said of its health")


def test_an_answer_that_ends_midway_is_not_asked_for_again(cluster: Cluster, others: Callable[..., None]) -> None:
    for _ in range(3):
        with pytest.raises(http.client.IncompleteRead):
            cluster.door.ask("/chat/half")
        others("half an answer")
    assert sum(cluster.asked("/chat/half").values()) == 3


def test_a_request_that_the_application_closes_is_not_tried_on_every_node(cluster: Cluster) -> None:
    assert cluster.door.ask("/chat/close").status == 502
    # Once more on the same node: the process might have been one that ended.
    assert sorted(cluster.asked("/chat/close").values()) == [0, 2]


def test_a_request_that_waits_when_the_socket_is_stopped_goes_to_another_node(cluster: Cluster) -> None:
    """Nobody has accepted it, though the kernel had taken the connection."""
    application = cluster.applications["web1"]
    with ThreadPoolExecutor() as threads:
        with application.listen() as listener:
            waiting = threads.submit(cluster.node("web1").ask, "/chat/")
            select.select([listener], [], [], 10)  # the connection is there
            application.path.unlink()
        assert waiting.result().status == NOBODY


def test_a_request_whose_process_ends_is_answered_by_another_process(cluster: Cluster) -> None:
    application = cluster.applications["web1"]
    application.frozen = True
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(cluster.node("web1").ask, "/chat/")
        while not application.asked("/chat/"):
            time.sleep(0.01)
        application.frozen = False
        application.drop()
        assert waiting.result().status == 200


def test_a_node_without_a_process_says_so_and_another_one_is_asked(
    cluster: Cluster, others: Callable[..., None]
) -> None:
    with socket.socket(socket.AF_UNIX) as nobody:  # a socket that is there and does not listen
        cluster.applications["web1"].path.unlink()
        nobody.bind(str(cluster.applications["web1"].path))
        cluster.applications["web1"].path.chmod(0o666)
        assert cluster.node("web1").ask("/chat/").status == NOBODY
        assert cluster.node("web1").ask("/accounts/login/", "POST", b"name=alice").status == NOBODY
        others("web1 has no process", 8)
        assert cluster.asked("/chat/")["web1"] == 0


def test_a_node_whose_queue_is_full_says_so(cluster: Cluster, others: Callable[..., None]) -> None:
    with cluster.applications["web1"].listen(0), contextlib.ExitStack() as stack:
        waiting = 0
        while waiting < 10:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(str(cluster.applications["web1"].path)):
                break
            waiting += 1
        assert waiting < 10
        assert cluster.node("web1").ask("/chat/").status == NOBODY
        others("the queue of web1 is full", 10)


@pytest.mark.parametrize("path", ["/accounts/close", "/accounts/status-503", "/accounts/status-502"])
def test_what_was_posted_is_never_posted_twice(cluster: Cluster, path: str) -> None:
    assert cluster.door.ask(path, "POST", b"name=alice").status == (503 if "503" in path else 502)
    assert sum(cluster.asked(path).values()) == 1


def test_what_was_posted_to_a_node_that_is_away_goes_to_another(cluster: Cluster) -> None:
    """Nothing was sent to the one that refused the connection."""
    cluster.nodes["web1"].kill()
    answers = [cluster.door.ask("/accounts/login/", "POST", b"name=alice").status for _ in range(6)]
    assert answers == [200] * 6


async def test_a_node_that_is_away_is_left_out_and_used_again(cluster: Cluster, others: Callable[..., None]) -> None:
    cluster.nodes["web1"].kill()
    others("web1 is away", 8)
    before = cluster.asked("/chat/")
    cluster.nodes["web1"].start()

    def used() -> bool:
        others("web1 is back", 2)
        return cluster.asked("/chat/")["web1"] > before["web1"]

    await until(used)


def test_all_nodes_away_is_told_with_503_and_when_to_come_again(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        node.kill()
    answer = cluster.door.ask("/chat/")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_a_process_anywhere_people_are_told_with_503(cluster: Cluster, method: str) -> None:
    for application in cluster.applications.values():
        application.path.unlink()
    for path in ("/chat/", "/chat/", "/chat/api/rooms", "/ws/chat/lobby/", "/healthz"):
        answer = cluster.door.ask(path, method)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert b"ot available at the moment" in answer.body and b"nginx" not in answer.body


@pytest.mark.parametrize("cluster", [Layout(faster=100)], indirect=True)
def test_nodes_that_are_all_silent_are_told_with_504(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        node.freeze()
    try:
        answer = cluster.door.ask("/chat/")
    finally:
        for node in cluster.nodes.values():
            node.thaw()
    assert (answer.status, b"took too long" in answer.body) == (504, True)


@pytest.mark.parametrize("cluster", [Layout(faster=20)], indirect=True)
def test_a_silent_process_is_told_by_its_node_and_costs_others_nothing(
    cluster: Cluster, others: Callable[..., None]
) -> None:
    """A request that takes too long is the node's to judge: the balancer waits for longer than the node does."""
    assert cluster.door.ask("/chat/silent").status == 502
    assert sum(cluster.asked("/chat/silent").values()) == 1
    others("a request that is never answered", 10)


@pytest.mark.parametrize("cluster", [Layout(faster=20)], indirect=True)
def test_a_frozen_node_is_left_out_after_the_health_check(cluster: Cluster, others: Callable[..., None]) -> None:
    cluster.nodes["web1"].freeze()
    try:
        # Of the two the balancer asks one, and the other one when the first is silent.
        assert [cluster.door.ask("/healthz").status for _ in range(4)] == [200] * 4
        assert cluster.asked("/healthz") == {"web1": 0, "web2": 4}
        others("web1 is frozen")
    finally:
        cluster.nodes["web1"].thaw()


@pytest.mark.parametrize("cluster", [Layout(faster=20)], indirect=True)
def test_a_node_whose_process_is_frozen_is_left_out_after_the_health_check(
    cluster: Cluster, others: Callable[..., None]
) -> None:
    cluster.applications["web1"].frozen = True
    assert [cluster.door.ask("/healthz").status for _ in range(4)] == [200] * 4
    assert cluster.asked("/healthz")["web2"] == 4
    others("the process of web1 is frozen")


def test_a_health_check_brings_nothing_of_the_client_along(cluster: Cluster) -> None:
    """What a client says there is the one thing that a node could be blamed for."""
    assert cluster.door.ask("/chat/../healthz?seen", "POST", b"x" * 1000, Cookie="x" * 4000, **UPGRADE).status == 200
    request = next(head for each in cluster.applications.values() for head in each.requests)
    assert request.startswith(b"GET /healthz?seen ")
    assert b"x" * 100 not in request
    assert b"X-Forwarded-For: 127.0.0.1" in request
    assert b"Content-Length" not in request


@contextlib.contextmanager
def in_its_place(cluster: Cluster, name: str, said: bytes) -> Iterator[list[bytes]]:
    """Something at a node's address that reads a request, says this and resets the connection; what it has read."""
    cluster.nodes[name].stop()
    read: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                connection, _ = listener.accept()
                with connection:
                    read.append(connection.recv(65536))
                    connection.sendall(said)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with socket.create_server((cluster.nodes[name].host, cluster.node_port)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield read
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_node_that_resets_connections_is_left_out(cluster: Cluster, others: Callable[..., None]) -> None:
    with in_its_place(cluster, "web1", b"") as read:
        others("web1 resets connections", 6)
        assert read


def test_what_was_posted_to_a_node_that_reset_the_connection_is_not_posted_to_another(cluster: Cluster) -> None:
    with in_its_place(cluster, "web1", b"") as read:
        answers = [cluster.door.ask("/accounts/login/", "POST", b"name=alice").status for _ in range(4)]
        assert len(read) + cluster.asked("/accounts/login/")["web2"] == 4
        assert answers.count(502) == len(read) >= 1


def test_a_node_that_resets_midway_in_an_answer_is_not_asked_again(cluster: Cluster) -> None:
    with in_its_place(cluster, "web1", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf") as read:
        whole = 0
        for _ in range(4):
            with contextlib.suppress(http.client.HTTPException, OSError):
                whole += cluster.door.ask("/chat/").body == b"web2"
        assert len(read) >= 1
        assert whole == cluster.asked("/chat/")["web2"] == 4 - len(read)
