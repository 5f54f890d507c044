"""The balancer skips a web node because of the node's failures, while they last, and never because of requests."""

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

NO_PROCESS = 504
"""A node's answer to its balancer that no process accepted the request; the application never sends it."""

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
    "a redirect of 5 KB under /ws/": ("/ws/location-5000", {}, {302, 502}),
    "a redirect as long as the buffer under /ws/": ("/ws/location-4020", {}, {302, 502}),
    "an answer that is not HTTP": ("/chat/garbage", {}, {502}),
    "the application's own 500": ("/chat/status-500", {}, {500}),
    "the application's own 502": ("/chat/status-502", {}, {502}),
    "the application's own 503": ("/chat/status-503", {}, {503}),
    "the application's own 503 to a handshake": ("/ws/status-503", UPGRADE, {503}),
    "the application's own 504": ("/chat/status-504", {}, {502}),
    "the application's own 429": ("/chat/status-429", {}, {429}),
    "a missing file": ("/static/nothing.js", {}, {404}),
    "a long line": ("/" + "x" * 9000, {}, {414}),
    "a long header": ("/chat/", {"X_Long": "x" * 9000}, {431}),
    "many headers": ("/chat/", {f"X_{number}": "x" * 4000 for number in range(12)}, {431}),
    "the longest line and headers accepted": (
        "/chat/" + "x" * 7900,
        {f"X_{number}": "x" * 7900 for number in range(3)},
        {200},
    ),
    "an unknown method": ("/chat/", {}, {200}),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_requests_do_not_affect_other_clients(cluster: Cluster, others: Callable[..., None], odd: str) -> None:
    path, headers, statuses = ODD[odd]
    body = b"hello" if "Content_Length" in headers else b""
    method = "BREW" if "method" in odd else "GET"
    for _ in range(3):
        assert cluster.endpoint.ask(path, method, body, **headers).status in statuses
        others(odd)


@pytest.mark.parametrize("cluster", [Layout(balancer="web1")], indirect=True)
def test_a_balancer_that_is_also_a_web_node_tolerates_bad_responses(
    cluster: Cluster, others: Callable[..., None]
) -> None:
    for path in ("/chat/close", "/ws/chat/close", "/chat/garbage", "/location-40000", "/chat/status-503"):
        for _ in range(2):  # one for each node
            assert cluster.endpoint.ask(path).status == (503 if "503" in path else 502)
        others(path, 3)
    assert all(cluster.request_count("/chat/").values())


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 501, 503])
def test_error_responses_of_the_application_are_passed_on(
    cluster: Cluster, others: Callable[..., None], status: int, method: str
) -> None:
    path = f"/chat/api/status-{status}"
    for _ in range(3):
        answer = cluster.endpoint.ask(path, method)
        assert (answer.status, answer.headers["retry-after"]) == (status, "7")
        assert answer.body == b"the application's own words"
        others(f"the application's own {status}")
    assert sum(cluster.request_count(path).values()) == 3


def test_an_unhealthy_response_of_the_application_is_passed_on(cluster: Cluster, others: Callable[..., None]) -> None:
    for application in cluster.applications.values():
        application.well = False
    answer = cluster.endpoint.ask("/healthz")
    assert (answer.status, answer.body) == (503, b"the application's own words")
    others("what the application said of its health")


def test_a_truncated_response_is_not_requested_again(cluster: Cluster, others: Callable[..., None]) -> None:
    for _ in range(3):
        with pytest.raises(http.client.IncompleteRead):
            cluster.endpoint.ask("/chat/half")
        others("half an answer")
    assert sum(cluster.request_count("/chat/half").values()) == 3


def test_a_request_closed_by_the_application_is_not_tried_on_all_nodes(cluster: Cluster) -> None:
    assert cluster.endpoint.ask("/chat/close").status == 502
    # It is tried once more on the same node, as the process might have ended.
    assert sorted(cluster.request_count("/chat/close").values()) == [0, 2]


def test_a_request_not_accepted_before_the_socket_stops_gets_504(cluster: Cluster) -> None:
    """No process has accepted the request, although the kernel has accepted the connection."""
    application = cluster.applications["web1"]
    with ThreadPoolExecutor() as threads:
        with application.listen() as listener:
            waiting = threads.submit(cluster.node("web1").ask, "/chat/")
            select.select([listener], [], [], 10)  # the connection has arrived
            application.path.unlink()
        assert waiting.result().status == NO_PROCESS


def test_a_request_whose_process_ends_is_retried_on_another_process(cluster: Cluster) -> None:
    application = cluster.applications["web1"]
    application.frozen = True
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(cluster.node("web1").ask, "/chat/")
        while not application.request_count("/chat/"):
            time.sleep(0.01)
        application.frozen = False
        application.drop()
        assert waiting.result().status == 200


def test_a_node_without_processes_answers_504_and_is_skipped(cluster: Cluster, others: Callable[..., None]) -> None:
    with socket.socket(socket.AF_UNIX) as unused:  # a socket that exists but does not listen
        cluster.applications["web1"].path.unlink()
        unused.bind(str(cluster.applications["web1"].path))
        cluster.applications["web1"].path.chmod(0o666)
        assert cluster.node("web1").ask("/chat/").status == NO_PROCESS
        assert cluster.node("web1").ask("/accounts/login/", "POST", b"name=alice").status == NO_PROCESS
        others("web1 has no process", 8)
        assert cluster.request_count("/chat/")["web1"] == 0


def test_a_node_with_a_full_backlog_answers_504(cluster: Cluster, others: Callable[..., None]) -> None:
    with cluster.applications["web1"].listen(0), contextlib.ExitStack() as stack:
        waiting = 0
        while waiting < 10:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(str(cluster.applications["web1"].path)):
                break
            waiting += 1
        assert waiting < 10
        assert cluster.node("web1").ask("/chat/").status == NO_PROCESS
        others("the queue of web1 is full", 10)


@pytest.mark.parametrize("path", ["/accounts/close", "/accounts/status-503", "/accounts/status-502"])
def test_post_requests_are_never_repeated(cluster: Cluster, path: str) -> None:
    assert cluster.endpoint.ask(path, "POST", b"name=alice").status == (503 if "503" in path else 502)
    assert sum(cluster.request_count(path).values()) == 1


def test_post_requests_to_an_unreachable_node_go_to_another(cluster: Cluster) -> None:
    """Nothing was sent to the node that refused the connection."""
    cluster.nodes["web1"].kill()
    answers = [cluster.endpoint.ask("/accounts/login/", "POST", b"name=alice").status for _ in range(6)]
    assert answers == [200] * 6


async def test_an_unreachable_node_is_skipped_and_used_again(cluster: Cluster, others: Callable[..., None]) -> None:
    cluster.nodes["web1"].kill()
    others("web1 is away", 8)
    before = cluster.request_count("/chat/")
    cluster.nodes["web1"].start()

    def used() -> bool:
        others("web1 is back", 2)
        return cluster.request_count("/chat/")["web1"] > before["web1"]

    await until(used)


def test_without_reachable_nodes_clients_get_503_with_retry_after(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        node.kill()
    answer = cluster.endpoint.ask("/chat/")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_any_process_clients_get_503_with_retry_after(cluster: Cluster, method: str) -> None:
    for application in cluster.applications.values():
        application.path.unlink()
    for path in ("/chat/", "/chat/", "/chat/api/rooms", "/ws/chat/lobby/", "/healthz"):
        answer = cluster.endpoint.ask(path, method)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert b"ot available at the moment" in answer.body and b"nginx" not in answer.body


@pytest.mark.parametrize("cluster", [Layout(faster=100)], indirect=True)
def test_silent_nodes_give_504(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        node.freeze()
    try:
        answer = cluster.endpoint.ask("/chat/")
    finally:
        for node in cluster.nodes.values():
            node.thaw()
    assert (answer.status, b"took too long" in answer.body) == (504, True)


@pytest.mark.parametrize("cluster", [Layout(faster=20)], indirect=True)
def test_an_unanswered_request_gives_502_and_does_not_affect_others(
    cluster: Cluster, others: Callable[..., None]
) -> None:
    """The node decides that a request takes too long, because the balancer waits for longer than the node does."""
    assert cluster.endpoint.ask("/chat/silent").status == 502
    assert sum(cluster.request_count("/chat/silent").values()) == 1
    others("a request that is never answered", 10)


@pytest.mark.parametrize("cluster", [Layout(faster=20)], indirect=True)
def test_a_frozen_node_is_skipped_after_a_health_check(cluster: Cluster, others: Callable[..., None]) -> None:
    cluster.nodes["web1"].freeze()
    try:
        # The balancer asks one of the two, and the other one if the first is silent.
        assert [cluster.endpoint.ask("/healthz").status for _ in range(4)] == [200] * 4
        assert cluster.request_count("/healthz") == {"web1": 0, "web2": 4}
        others("web1 is frozen")
    finally:
        cluster.nodes["web1"].thaw()


@pytest.mark.parametrize("cluster", [Layout(faster=20)], indirect=True)
def test_a_node_with_a_frozen_process_is_skipped_after_a_health_check(
    cluster: Cluster, others: Callable[..., None]
) -> None:
    cluster.applications["web1"].frozen = True
    assert [cluster.endpoint.ask("/healthz").status for _ in range(4)] == [200] * 4
    assert cluster.request_count("/healthz")["web2"] == 4
    others("the process of web1 is frozen")


def test_a_health_check_forwards_nothing_that_the_client_sent(cluster: Cluster) -> None:
    """Otherwise the content of a client's request could make the balancer mark a node as failed."""
    assert (
        cluster.endpoint.ask("/chat/../healthz?seen", "POST", b"x" * 1000, Cookie="x" * 4000, **UPGRADE).status == 200
    )
    request = next(head for each in cluster.applications.values() for head in each.requests)
    assert request.startswith(b"GET /healthz?seen ")
    assert b"x" * 100 not in request
    assert b"X-Forwarded-For: 127.0.0.1" in request
    assert b"Content-Length" not in request


@contextlib.contextmanager
def resetting_server(cluster: Cluster, name: str, response: bytes) -> Iterator[list[bytes]]:
    """Replace a node by a server that reads a request, sends `response` and resets the connection.

    Yield the list of requests that it has read.
    """
    cluster.nodes[name].stop()
    read: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                connection, _ = listener.accept()
                with connection:
                    read.append(connection.recv(65536))
                    connection.sendall(response)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with socket.create_server((cluster.nodes[name].host, cluster.node_port)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield read
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_node_that_resets_connections_is_skipped(cluster: Cluster, others: Callable[..., None]) -> None:
    with resetting_server(cluster, "web1", b"") as read:
        others("web1 resets connections", 6)
        assert read


def test_post_requests_are_not_repeated_after_a_connection_reset(cluster: Cluster) -> None:
    with resetting_server(cluster, "web1", b"") as read:
        answers = [cluster.endpoint.ask("/accounts/login/", "POST", b"name=alice").status for _ in range(4)]
        assert len(read) + cluster.request_count("/accounts/login/")["web2"] == 4
        assert answers.count(502) == len(read) >= 1


def test_a_response_reset_midway_is_not_requested_again(cluster: Cluster) -> None:
    with resetting_server(cluster, "web1", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf") as read:
        whole = 0
        for _ in range(4):
            with contextlib.suppress(http.client.HTTPException, OSError):
                whole += cluster.endpoint.ask("/chat/").body == b"web2"
        assert len(read) >= 1
        assert whole == cluster.request_count("/chat/")["web2"] == 4 - len(read)
