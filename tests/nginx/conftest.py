"""A load balancer and two web nodes, each an nginx with the site of the role, in front of scripted applications."""

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
# Without the certificates of the machine, as loading them takes long
TRUSTING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Endpoint:
    """An address to send requests to, as clients or a load balancer do."""

    host: str
    port: int
    tls: bool = True
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, method: str = "GET", body: bytes | str = b"", **headers: str) -> Answer:
        """Send a request on a new connection. Raises OSError or HTTPException if there is no response."""
        connection = self.connection()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, {**self.headers, **named})
            response = connection.getresponse()
            headers_received = {name.lower(): value for name, value in response.getheaders()}
            if response.status == 101:
                return Answer(101, headers_received, b"")
            return Answer(response.status, headers_received, response.read())
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
    endpoint: Endpoint
    node_port: int

    def node(self, name: str) -> Endpoint:
        """Return the address at which the load balancer reaches a node."""
        return Endpoint(ADDRESSES[name], self.node_port, tls=False, headers={"Host": "127.0.0.1"})

    def request_count(self, path: str) -> dict[str, int]:
        """Return how many requests for this path each node's application accepted."""
        return {name: application.request_count(path) for name, application in self.applications.items()}


@dataclass(frozen=True)
class Layout:
    """The host that balances, and the divisor of all read timeouts, so that tests can wait for them."""

    balancer: str = "lb1"
    faster: int = 1


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Render the role's sites for two web nodes and their load balancer, which is a third host or one of the two."""

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
    """Start a cluster for each test, so that nginx remembers no failures of nodes. The parameter is a Layout."""
    layout = getattr(request, "param", Layout())
    folder = rendered(layout.balancer)
    ports = {80: free_port(), 443: free_port(), 8080: free_port()}
    with ExitStack() as stack:
        # A short path, as that of a Unix socket has at most 107 bytes
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
            endpoint=Endpoint(ADDRESSES[layout.balancer], ports[443]),
            node_port=ports[8080],
        )


def _faster(site: str, divisor: int) -> str:
    return re.sub(
        r"proxy_read_timeout (\d+)s", lambda found: f"proxy_read_timeout {int(found[1]) * 1000 // divisor}ms", site
    )


@pytest.fixture
def others(cluster: Cluster) -> Callable[..., None]:
    """Send requests as another client, and assert that each is answered with 200."""

    def ask(after: object, count: int = 2) -> None:
        answers = [cluster.endpoint.ask("/chat/").status for _ in range(count)]
        assert answers == [200] * count, f"others were answered {answers} after {after}"

    return ask
