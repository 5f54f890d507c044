"""A balancer and two web nodes, each an nginx with the site of the role, before scripted applications."""

import functools
import http.client
import re
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.nginx.application import Application
from tests.nginx.serving import PACKAGED, Nginx, certificate, moved, role_sites
from tests.support.servers import free_port

ADDRESSES = {"lb1": "127.0.0.1", "web1": "127.0.0.2", "web2": "127.0.0.3"}
NODES = ("web1", "web2")
WAIT_SECONDS = 15
TRUSTING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the machine's certificates, which take long to read
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Door:
    """Where people, or a balancer, ask."""

    host: str
    port: int
    tls: bool = True
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, method: str = "GET", body: bytes | str = b"", **headers: str) -> Answer:
        """Ask on a connection of its own. Raises OSError or HTTPException when nothing comes back."""
        connection = self.connection()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, {**self.headers, **named})
            response = connection.getresponse()
            told = {name.lower(): value for name, value in response.getheaders()}
            if response.status == 101:
                return Answer(101, told, b"")
            return Answer(response.status, told, response.read())
        finally:
            connection.close()

    def connection(self) -> http.client.HTTPConnection:
        if not self.tls:
            return http.client.HTTPConnection(self.host, self.port, timeout=WAIT_SECONDS)
        return http.client.HTTPSConnection(self.host, self.port, timeout=WAIT_SECONDS, context=TRUSTING)


@dataclass
class Cluster:
    balancer: Nginx
    nodes: dict[str, Nginx]
    applications: dict[str, Application]
    door: Door
    node_port: int

    def node(self, name: str) -> Door:
        """The way to a node that its balancer takes."""
        return Door(ADDRESSES[name], self.node_port, tls=False, headers={"Host": "127.0.0.1"})

    def asked(self, path: str) -> dict[str, int]:
        """How often each node's application accepted a request for this path."""
        return {name: application.asked(path) for name, application in self.applications.items()}


@dataclass(frozen=True)
class Layout:
    """Which host balances, and by how much all read timeouts are divided, so that silence can be waited for."""

    balancer: str = "lb1"
    faster: int = 1


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """What the role writes for two web nodes and their balancer, a host of its own or one of the two."""

    @functools.cache
    def render(balancer: str) -> Path:
        hosts = dict.fromkeys([balancer, *NODES])
        folder = tmp_path_factory.mktemp("role")
        groups = {"loadbalancer": [balancer], "web": [*NODES]}
        role_sites(folder, groups, {name: ADDRESSES[name] for name in hosts})
        certificate(folder)
        return folder

    return render


@pytest.fixture
def cluster(rendered: Callable[[str], Path], request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Started anew for each test: what nginx thinks of a node is not carried over. Its parameter is a Layout."""
    layout = getattr(request, "param", Layout())
    folder = rendered(layout.balancer)
    ports = {80: free_port(), 443: free_port(), 8080: free_port()}
    with ExitStack() as stack:
        # A Unix socket's path may have 107 bytes.
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="balancing-")))
        runtime.chmod(0o755)

        def started(name: str) -> Nginx:
            site = _faster((folder / f"{name}.conf").read_text(), layout.faster).replace(":8080", f":{ports[8080]}")
            paths = {
                "/run/channelbox/web.sock": str(runtime / f"{name}.sock"),
                "/etc/channelbox/tls": str(folder),
                "/etc/nginx/channelbox-errors": str(PACKAGED / "errors"),
            }
            site = moved(site, ADDRESSES[name], ports, paths)
            port = ports[443] if name == layout.balancer else ports[8080]
            server = Nginx(runtime / name, site, port, host=ADDRESSES[name])
            server.start()
            stack.callback(server.stop)
            return server

        applications = {
            name: stack.enter_context(Application(runtime / f"{name}.sock", name).serving()) for name in NODES
        }
        servers = {name: started(name) for name in dict.fromkeys([*NODES, layout.balancer])}
        yield Cluster(
            balancer=servers[layout.balancer],
            nodes={name: servers[name] for name in NODES},
            applications=applications,
            door=Door(ADDRESSES[layout.balancer], ports[443]),
            node_port=ports[8080],
        )


def _faster(site: str, divisor: int) -> str:
    return re.sub(
        r"proxy_read_timeout (\d+)s", lambda found: f"proxy_read_timeout {int(found[1]) * 1000 // divisor}ms", site
    )


@pytest.fixture
def others(cluster: Cluster) -> Callable[..., None]:
    """Somebody else asks for pages: each is answered."""

    def ask(after: object, count: int = 2) -> None:
        answers = [cluster.door.ask("/chat/").status for _ in range(count)]
        assert answers == [200] * count, f"others were answered {answers} after {after}"

    return ask
