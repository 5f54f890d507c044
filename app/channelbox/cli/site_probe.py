"""Checks of the path from a browser to the application: name, port, certificate, proxy, Origin and WebSocket."""

import asyncio
import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from channelbox.cli.finding import ENV, Finding, note, well, wrong

if TYPE_CHECKING:
    from channelbox.cli.room_probe import Answer

TIMEOUT_SECONDS = 10.0  # for each step: an overloaded machine is slow, but nothing is wrong with it
WARN_DAYS = 30  # before a certificate expires

# For a client to claim as its own: an address and an origin that nobody has (RFC 5737, RFC 2606).
CLAIMED_ADDRESS = "192.0.2.77"
FOREIGN_ORIGIN = "https://doctor.invalid"


class SiteProbe:
    """The path to one address, such as https://chat.example or http://127.0.0.1:8000."""

    def __init__(self, url: str) -> None:
        self.parts: SplitResult = urlsplit(url if "://" in url else f"https://{url}")
        self.tls = self.parts.scheme in ("https", "wss")
        self.host = self.parts.hostname or ""
        self.port = self.parts.port or (443 if self.tls else 80)
        self.origin = f"{'https' if self.tls else 'http'}://{self.parts.netloc}"
        self._context: ssl.SSLContext | None = None
        self._address = ""

    def examine(self) -> Iterator[Finding]:
        """Yield the findings, step by step. Stops after a step that fails, except that of the certificate."""
        for step in (self._connect, self._certificate, self._health, self._websocket, self._foreign_origin):
            blocked = False
            for finding in step():
                yield finding
                blocked = blocked or finding.verdict == "wrong"
            if blocked and step != self._certificate:
                return

    # --- The steps

    def _connect(self) -> Iterator[Finding]:
        try:
            with socket.create_connection((self.host, self.port), TIMEOUT_SECONDS) as connection:
                self._address = connection.getsockname()[0]
        except socket.gaierror:
            yield wrong(
                f"The name {self.host} cannot be resolved on this node.", "Add it to your DNS or to /etc/hosts."
            )
        except TimeoutError:
            yield wrong(
                f"{self.host} port {self.port} does not respond within {TIMEOUT_SECONDS:.0f} s.",
                "A firewall blocks the connection, or the machine is down.",
            )
        except OSError as error:
            yield wrong(
                f"{self.host} port {self.port} is not reachable: {error.strerror or error}.",
                "On that machine, run: systemctl status nginx; nginx -t",
            )
        else:
            yield well(f"{self.host} port {self.port} is reachable.")

    def _certificate(self) -> Iterator[Finding]:
        if not self.tls:
            yield note(
                "The connection is not encrypted.", "Use it only on this machine or behind a proxy that encrypts."
            )
            return
        context = ssl.create_default_context()
        error = self._handshake(context)
        if error is not None and error.verify_code in (18, 19, 20, 21):
            # Unknown issuer: verify again as if it were known, to find what else may be wrong.
            yield note(
                f"Browsers warn about the certificate: {error.verify_message}.",
                "Put a certificate of your organisation's authority into /etc/channelbox/tls/ (cert.pem, key.pem) and "
                "reload nginx. Or make machines trust this certificate, which is valid for this server alone: allow it "
                "in the browser; on Debian, copy it to /usr/local/share/ca-certificates/channelbox.crt and run "
                "update-ca-certificates.",
            )
            context = ssl.create_default_context(cadata=self._server_certificate())
            error = self._handshake(context)
        if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code not in (18, 19, 20, 21):
            yield wrong(
                f"The certificate is not valid: {error.verify_message}.",
                "Replace /etc/channelbox/tls/cert.pem and key.pem with a pair that is valid today and for exactly this "
                "name or address.",
            )
        elif error is None:
            yield from self._validity()
        # The following steps run whatever the certificate is like.
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def _health(self) -> Iterator[Finding]:
        try:
            status, headers, body = self._get("/healthz?seen", {"X-Forwarded-For": CLAIMED_ADDRESS})
        except (OSError, http.client.HTTPException) as error:
            yield wrong(f"No web server responds: {error}.", "On that machine, run: systemctl status nginx")
            return
        if status in (502, 503, 504):
            yield wrong(
                f"nginx responds, but no web process behind it does ({status}).",
                "On the web nodes, run: systemctl start channelbox.target; systemctl status 'channelbox-web@*'",
            )
        elif status == 400:
            yield wrong(
                f"channelbox does not accept requests for {self.host}.",
                f"Add it to CHANNELBOX_HOSTS in {ENV} on every web node, then run: channelbox restart web",
            )
        elif status in (301, 302, 307, 308):
            there = headers.get("location", "")
            yield wrong(f"The address redirects to {there}", f"Diagnose that address: channelbox doctor {there}")
        elif status != 200 or not body.startswith("ok"):
            yield wrong(
                f"Something other than channelbox answers at {self.origin} ({status}).",
                "Another nginx site or another program uses this name or port. To see the nginx sites, run: nginx -T",
            )
        else:
            yield well("A web process responds.")
            yield from self._client_address(body)

    def _client_address(self, body: str) -> Iterator[Finding]:
        address, _, scheme = body.partition("\n")[2].strip().partition(" ")
        if not address:
            return
        if address == CLAIMED_ADDRESS:
            yield wrong(
                "Clients can forge their address, so failed sign-ins cannot be limited.",
                "nginx must overwrite the header: proxy_set_header X-Forwarded-For $remote_addr;",
            )
        elif address in ("nobody", "unix:"):
            yield wrong(
                "The application does not see the addresses of its clients.",
                "nginx must set the header: proxy_set_header X-Forwarded-For $remote_addr;",
            )
        elif address != self._address and not _is_local(self.host):
            yield note(
                f"The address of this machine is {self._address}, but the application sees {address}.",
                "This is correct if addresses are translated (NAT). Otherwise let nginx trust its load balancer: "
                "set_real_ip_from",
            )
        else:
            yield well(f"The application sees the clients' own addresses ({address}).")
        if self.tls and scheme != "https":
            yield wrong(
                "The application does not see that connections are encrypted: signing in will fail.",
                "nginx (of the load balancer, if there is one) must set the header: "
                "proxy_set_header X-Forwarded-Proto $scheme;",
            )

    def _websocket(self) -> Iterator[Finding]:
        from channelbox.cli.room_probe import own_pages

        yield own_pages(self._enter(self.origin), self.origin)

    def _foreign_origin(self) -> Iterator[Finding]:
        from channelbox.cli.room_probe import foreign_pages

        yield foreign_pages(self._enter(FOREIGN_ORIGIN))

    # --- Helpers

    def _handshake(self, context: ssl.SSLContext) -> ssl.SSLCertVerificationError | None:
        self._peer: dict[str, object] = {}
        try:
            with (
                socket.create_connection((self.host, self.port), TIMEOUT_SECONDS) as plain,
                context.wrap_socket(plain, server_hostname=self.host) as secure,
            ):
                self._peer = dict(secure.getpeercert() or {})
        except ssl.SSLCertVerificationError as error:
            return error
        except OSError:
            return None  # no TLS there: the next step reports it
        return None

    def _server_certificate(self) -> str:
        return ssl.get_server_certificate((self.host, self.port), timeout=TIMEOUT_SECONDS)

    def _validity(self) -> Iterator[Finding]:
        end = self._peer.get("notAfter")
        if not isinstance(end, str):
            return
        days = int((ssl.cert_time_to_seconds(end) - time.time()) / 86_400)
        if days < WARN_DAYS:
            yield note(f"The certificate expires in {days} days.", "Renew it in /etc/channelbox/tls/ and reload nginx.")
        else:
            yield well(f"The certificate is for {self.host} and valid for {days} more days.")

    def _get(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], str]:
        connection: http.client.HTTPConnection
        if self.tls:
            connection = http.client.HTTPSConnection(
                self.host, self.port, timeout=TIMEOUT_SECONDS, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            response_headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, response_headers, answer.read(10_000).decode(errors="replace")
        finally:
            connection.close()

    def _enter(self, origin: str) -> "Answer":
        from channelbox.cli.room_probe import enter

        address = f"{'wss' if self.tls else 'ws'}://{self.parts.netloc}"
        return asyncio.run(enter(address, origin, self._context, TIMEOUT_SECONDS))


def _is_local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
