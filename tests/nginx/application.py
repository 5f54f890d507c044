"""A scripted application on a Unix socket, which answers each path as a misbehaving web process might."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BACKLOG = 64


class Application:
    """An application that records requests, and answers according to the last part of the path.

    `close` ends the connection without an answer, `half` in the middle of one. `silent` never answers, `garbage` is not
    valid HTTP, `location-N` redirects to an address of N letters, and `status-N` answers with that status. Upgrades are
    accepted. Any other path is answered with 200 and the application's name. `/healthz` is 503 while `well` is false.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.frozen = False
        self.well = True
        self.requests: list[bytes] = []
        self._waiting: list[socket.socket] = []

    @contextmanager
    def serving(self) -> Iterator["Application"]:
        listener = self.listen()
        thread = threading.Thread(target=self._accept, args=(listener,))
        thread.start()
        try:
            yield self
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            listener.close()
            self.path.unlink(missing_ok=True)
            for each in self._waiting:
                each.close()

    def listen(self, backlog: int = BACKLOG) -> socket.socket:
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        self.path.chmod(0o666)
        listener.listen(backlog)
        return listener

    def drop(self) -> None:
        """End all current connections, as the exit of a process would. New ones are still accepted."""
        for connection in list(self._waiting):
            with contextlib.suppress(OSError):  # it has ended already
                connection.shutdown(socket.SHUT_RDWR)

    def request_count(self, path: str) -> int:
        """Return how many requests for this path were accepted."""
        return sum(request.split(b" ", 2)[1] == path.encode() for request in self.requests)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._waiting.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        try:
            while True:
                while b"\r\n\r\n" not in received:
                    if not (more := connection.recv(65536)):
                        return
                    received += more
                head, _, received = received.partition(b"\r\n\r\n")
                received = received[_length(head) :]
                self.requests.append(head)
                if not self._answer(connection, head):
                    return
        except OSError:
            return

    def _answer(self, connection: socket.socket, head: bytes) -> bool:
        """Answer one request, unless `frozen`. Returns whether the connection stays open."""
        if self.frozen:
            return True
        word, _, number = head.split(b" ", 2)[1].split(b"?")[0].rpartition(b"/")[2].decode().partition("-")
        match word:
            case "healthz" if not self.well:
                connection.sendall(_response("503 Said", b"the application's own words"))
            case "close":
                connection.shutdown(socket.SHUT_RDWR)
                return False
            case "half":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
                connection.shutdown(socket.SHUT_RDWR)
                return False
            case "garbage":
                connection.sendall(b"HTTP/1.1 200 OK\r\nbad\x00header: 1\r\n\r\n")
                connection.shutdown(socket.SHUT_RDWR)
                return False
            case "silent":
                return True
            case "location":
                connection.sendall(_response("302 Found", b"", f"Location: /{'x' * (int(number) - 1)}\r\n"))
            case "status":
                connection.sendall(_response(f"{number} Said", b"the application's own words", "Retry-After: 7\r\n"))
            case _ if b"\r\nupgrade: websocket" in head.lower():
                connection.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
                )
                connection.recv(65536)
                return False
            case _:
                connection.sendall(_response("200 OK", self.name.encode()))
        return True


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _response(status: str, body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
