"""`channelbox doctor`, with a real nginx that has the package's configuration, or a misconfigured one."""

import asyncio
import datetime
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGTERM

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.integration.local import Installation, installation
from tests.nginx.serving import ERRORS
from tests.support.servers import Server, free_port

from channelbox.cli.errors import CliError
from channelbox.cli.finding import Finding
from channelbox.cli.local_installation import COMMAND
from channelbox.cli.site_probe import SiteProbe
from channelbox.cli.supervisor import SupervisedProcess

SHIPPED = Path(__file__).parents[2] / "packaging" / "debian" / "nginx" / "locations.conf"

pytestmark = pytest.mark.asyncio(loop_scope="module")


def make_certificate(folder: Path, address: str = "127.0.0.1", days: int = 100) -> None:
    """Write a self-signed cert.pem and its key.pem. With negative `days` it has expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "channelbox test")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=400))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


class Nginx(Server):
    """An nginx in front of the application's Unix socket."""

    def __init__(self, folder: Path, application: Path, port: int, locations: str) -> None:
        self.port = port
        (folder / "locations.conf").write_text(locations.replace(ERRORS, str(SHIPPED.parent / "errors")))
        (folder / "nginx.conf").write_text(
            f"""
            daemon off;
            {"user root;" if os.getuid() == 0 else ""}
            worker_processes 1;
            pid {folder}/nginx.pid;
            error_log stderr;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path {folder}/body;
                proxy_temp_path {folder}/proxy;
                fastcgi_temp_path {folder}/fastcgi;
                uwsgi_temp_path {folder}/uwsgi;
                scgi_temp_path {folder}/scgi;
                upstream channelbox {{ server unix:{application}; }}
                server {{
                    listen 127.0.0.1:{port} ssl;
                    ssl_certificate {folder}/cert.pem;
                    ssl_certificate_key {folder}/key.pem;
                    include {folder}/locations.conf;
                }}
            }}
            """
        )
        super().__init__(folder, ["nginx", "-e", "stderr", "-p", str(folder), "-c", "nginx.conf"], stop=SIGTERM)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(tmp_path_factory: pytest.TempPathFactory, port: int) -> AsyncIterator[Installation]:
    origin = {"CHANNELBOX_ORIGINS": f"https://127.0.0.1:{port}", "CHANNELBOX_ORIGIN_REQUIRED": "true"}
    async with installation(tmp_path_factory.mktemp("doctor"), web=0, variables=origin) as local:
        yield local


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(local: Installation, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A web process on a Unix socket, as behind nginx."""
    runtime = tmp_path_factory.mktemp("w")
    path = runtime / "web.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(100)
        command = [*COMMAND, "web", "--fd", str(listener.fileno())]
        environment = {**local.environment, "CHANNELBOX_INSTANCE": "web@1"}
        child = SupervisedProcess("web@1", command, environment, lambda *_: None, runtime, [listener.fileno()])
        await child.start()
        yield path
        await child.stop()


@pytest.fixture
def nginx(application: Path, port: int, tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    with ExitStack() as stack:

        def start(change: Callable[[str], str] = str, to: Path = application, **certificate: object) -> Nginx:
            make_certificate(tmp_path, **certificate)  # type: ignore[arg-type]
            server = Nginx(tmp_path, to, port, change(SHIPPED.read_text()))
            server.start()
            stack.callback(server.stop)
            return server

        yield start


async def examine(port: int, host: str = "127.0.0.1") -> list[Finding]:
    return await asyncio.to_thread(lambda: list(SiteProbe(f"https://{host}:{port}").examine()))


def only_wrong(findings: list[Finding]) -> Finding:
    """Return the only wrong finding. Raises AssertionError if there is none, or more than one."""
    found = [finding for finding in findings if finding.verdict == "wrong"]
    assert len(found) == 1, findings
    return found[0]


async def test_a_correct_site_has_no_wrong_findings(nginx: Callable[..., Nginx], port: int) -> None:
    nginx()
    findings = await examine(port)
    assert [finding for finding in findings if finding.verdict == "wrong"] == []
    sentences = " ".join(finding.sentence for finding in findings)
    for sentence in (
        "Browsers warn about the certificate: self-signed",
        "valid for 99 more days",
        "The application sees the clients' own addresses (127.0.0.1)",
        "WebSockets work",
        "WebSockets from pages of other sites are refused",
    ):
        assert sentence in sentences


async def test_doctor_command_reports_workers_and_websockets(nginx: Callable[..., Nginx], local: Installation) -> None:
    nginx()
    output = await local.run("doctor")
    assert "Running worker processes: 1." in output
    assert "WebSockets work" in output


async def test_an_expired_certificate_is_reported(nginx: Callable[..., Nginx], port: int) -> None:
    nginx(days=-1)
    assert "expired" in only_wrong(await examine(port)).sentence


async def test_a_certificate_that_expires_soon_is_noted(nginx: Callable[..., Nginx], port: int) -> None:
    nginx(days=12)
    assert any("expires in 11 days" in f.sentence and f.verdict == "note" for f in await examine(port))


async def test_a_certificate_for_another_name_is_reported(nginx: Callable[..., Nginx], port: int) -> None:
    nginx(address="192.0.2.1")
    finding = only_wrong(await examine(port))
    assert "mismatch" in finding.sentence
    assert "for exactly this name or address" in finding.remedy


async def test_a_proxy_that_drops_the_upgrade_header_is_reported(nginx: Callable[..., Nginx], port: int) -> None:
    nginx(lambda shipped: shipped.replace("proxy_set_header Upgrade $http_upgrade;", ""))
    finding = only_wrong(await examine(port))
    assert "instead of 101" in finding.sentence
    assert "Upgrade" in finding.remedy


async def test_a_proxy_that_trusts_forwarded_addresses_is_reported(nginx: Callable[..., Nginx], port: int) -> None:
    nginx(lambda shipped: shipped.replace("X-Forwarded-For $remote_addr", "X-Forwarded-For $proxy_add_x_forwarded_for"))
    assert "X-Forwarded-For $remote_addr" in only_wrong(await examine(port)).remedy


async def test_a_proxy_without_x_forwarded_proto_is_reported(nginx: Callable[..., Nginx], port: int) -> None:
    nginx(lambda shipped: shipped.replace("proxy_set_header X-Forwarded-Proto $scheme;", ""))
    assert "X-Forwarded-Proto" in only_wrong(await examine(port)).remedy


async def test_a_refused_origin_is_reported_with_its_setting(nginx: Callable[..., Nginx], port: int) -> None:
    nginx(address="127.0.0.1")
    findings = await examine(port, "localhost")
    wrong = [finding for finding in findings if finding.verdict == "wrong"]
    assert "mismatch" in wrong[0].sentence
    assert wrong[1].remedy.startswith(f"Add https://localhost:{port} to CHANNELBOX_ORIGINS")


async def test_a_refused_host_name_is_reported_with_its_setting(nginx: Callable[..., Nginx], port: int) -> None:
    nginx()
    wrong = [finding for finding in await examine(port, "127.1") if finding.verdict == "wrong"]
    assert "CHANNELBOX_HOSTS" in wrong[-1].remedy


async def test_a_missing_web_process_is_reported(nginx: Callable[..., Nginx], port: int, tmp_path: Path) -> None:
    nginx(to=tmp_path / "nobody.sock")
    assert "systemctl start channelbox.target" in only_wrong(await examine(port)).remedy


async def test_another_site_at_the_address_is_reported(nginx: Callable[..., Nginx], port: int) -> None:
    nginx(lambda _: 'location / { return 200 "welcome to nginx"; }')
    assert "Something other than channelbox" in only_wrong(await examine(port)).sentence


async def test_a_closed_port_is_reported() -> None:
    assert "is not reachable" in only_wrong(await examine(free_port())).sentence


async def test_an_unresolvable_name_is_reported() -> None:
    assert "cannot be resolved" in only_wrong(await examine(443, "nowhere.invalid")).sentence


async def test_a_missing_worker_is_reported(nginx: Callable[..., Nginx], local: Installation) -> None:
    nginx()
    await local.workers[0].stop()
    try:
        with pytest.raises(CliError, match=r"(?s)No worker process is reporting.*systemctl start channelbox-worker@1"):
            await local.run("doctor")
    finally:
        await local.workers[0].start()


async def test_unreachable_redis_and_database_are_reported(
    nginx: Callable[..., Nginx], local: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    nginx()
    monkeypatch.setitem(local.environment, "CHANNELBOX_REDIS_URL", "unix:///nowhere/redis.sock")
    monkeypatch.setitem(local.environment, "CHANNELBOX_DATABASE_URL", "sqlite:////nowhere/db.sqlite3")
    with pytest.raises(CliError, match=r"(?s)WRONG.*database.*WRONG.*Redis does not respond"):
        await local.run("doctor")


async def set_lobby_closed(local: Installation, closed: bool) -> None:
    code = f"Room.objects.update_or_create(name='lobby', defaults={{'closed': {closed}}})"
    await local.run("manage", "shell", "-c", f"from channelbox.chat.models import Room; {code}")


async def test_a_closed_lobby_is_noted_but_not_wrong(
    nginx: Callable[..., Nginx], port: int, local: Installation
) -> None:
    nginx()
    await set_lobby_closed(local, closed=True)
    findings = await examine(port)
    assert [finding for finding in findings if finding.verdict == "wrong"] == []
    assert any("(The room lobby is closed" in finding.sentence for finding in findings)


async def test_a_room_that_cannot_be_joined_is_reported(
    nginx: Callable[..., Nginx], port: int, local: Installation
) -> None:
    nginx()
    await set_lobby_closed(local, closed=False)
    assert local.redis is not None
    await local.redis.stop()
    try:
        finding = only_wrong(await examine(port))
    finally:
        await local.redis.start()
    assert "nobody can join a room" in finding.sentence
    assert "Redis or the database" in finding.sentence
