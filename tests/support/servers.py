"""Real servers for tests: Redis and PostgreSQL from Debian's packages, in a temporary folder, ended by process id."""

import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM, Signals

import redis

START_SECONDS = 20


PORTS = range(20_000, 32_000)  # below those that the kernel gives to outgoing connections
_reservations: list[socket.socket] = []  # held until this process ends


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nothing listens, and that no call in any test process has returned.

    A port that the kernel chose could be given to somebody else before a server listens on it. The reservation is an
    abstract Unix socket, which the kernel releases when this process ends.
    """
    for port in random.sample(PORTS, len(PORTS)):
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0channelbox-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reservations.append(reservation)
        return port
    raise RuntimeError(f"no port from {PORTS.start} to {PORTS.stop - 1} is free")


class Server:
    """A child process that can be stopped, killed, frozen and restarted with the same data."""

    def __init__(self, folder: Path, command: list[str], *, user: str | None = None, stop: Signals) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self._user = user
        self._stop = stop
        # Ends the server if the tests are killed.
        self._command = ["setpriv", "--pdeathsig", stop.name.removeprefix("SIG"), *command]
        if user is not None:
            self._command[1:1] = ["--reuid", user, "--regid", user, "--init-groups"]
        self.process: subprocess.Popen[bytes] | None = None

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self.folder)
        end = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"{self._command} did not start:\n{self.log.read_text()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Shut the server down in order."""
        self._end(self._stop)

    def kill(self) -> None:
        """Kill the server, as a power cut would."""
        self._end(SIGKILL)

    def freeze(self) -> None:
        """Suspend the process, while the kernel keeps accepting connections and bytes for it."""
        self.signal(SIGSTOP)

    def thaw(self) -> None:
        self.signal(SIGCONT)

    def signal(self, number: Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> None:
        """Wait until the process has ended."""
        assert self.process is not None
        self.process.wait(START_SECONDS)
        self.process = None

    def _end(self, number: Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.send_signal(SIGCONT)
            self.process.wait(START_SECONDS)
        self.process = None


class PingedServer(Server):
    """A server that speaks Redis' protocol, and is ready when it answers a PING."""

    def client(self) -> redis.Redis:
        """Return a blocking client for the test itself."""
        raise NotImplementedError

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class RedisServer(PingedServer):
    """A Redis on a Unix socket, and on a TCP port if one is given."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)]
        super().__init__(folder, [*command, "--save", "", "--appendonly", "no", *options], stop=SIGTERM)

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5)


class SentinelServer(PingedServer):
    """A single Sentinel that replaces a master on a port of 127.0.0.1 after a second without an answer."""

    def __init__(self, folder: Path, name: str, master: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor {name} 127.0.0.1 {master} 1\n"
            f"sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 5000\n"
        )
        super().__init__(folder, ["redis-server", str(configuration), "--sentinel"], stop=SIGTERM)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)


class PostgreSQLServer(Server):
    """A PostgreSQL cluster on a Unix socket, with trust authentication. Root starts it as the user postgres.

    It does not wait for the disk (fsync is off), unless `options`, which are those of postgres, change that.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self.programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        self.data = Path(tempfile.mkdtemp(prefix="postgresql-", dir=folder))
        user = "postgres" if os.getuid() == 0 else None
        if user:
            shutil.chown(self.data, user, user)
        self.owner = user or pwd.getpwuid(os.getuid()).pw_name
        settings = {"unix_socket_directories": str(self.data), "listen_addresses": "", "fsync": "off"}
        command = [str(self.programs / "postgres"), "-D", str(self.data / "cluster")]
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        # SIGINT is a fast shutdown, which does not wait for clients.
        super().__init__(folder, [*command, *words, *options], user=user, stop=SIGINT)

    def url(self, database: str) -> str:
        """Return the URL of a database, for dj-database-url."""
        return f"postgresql://{self.owner}@{str(self.data).replace('/', '%2F')}/{database}"

    def start(self) -> None:
        if not (self.data / "cluster").exists():
            initdb = [str(self.programs / "initdb"), "-D", str(self.data / "cluster"), "--auth=trust", "--no-sync"]
            locale = ["--encoding=UTF8", "--locale=C.UTF-8"]
            subprocess.run(initdb + locale, check=True, capture_output=True, user=self._user, cwd=self.data)
        super().start()

    def answers(self) -> bool:
        ready = [str(self.programs / "pg_isready"), "-q", "-h", str(self.data)]
        return subprocess.run(ready, check=False).returncode == 0
