"""The self-signed certificate of a node is no CA and is renewed automatically; other certificates are kept."""

import os
import ssl
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "packaging/debian/self-signed"
NAMES = """\
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = {name}
[extensions]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:{name}
"""
DAY = 86_400
CA_EXTENSIONS_OF_0_1_0 = (
    "subjectAltName=DNS:chat,IP:192.0.2.1",
    "keyUsage=critical,digitalSignature,keyCertSign",
    "extendedKeyUsage=serverAuth",
)

Run = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_names(tmp_path, "chat.example.org")
    return tmp_path


def write_names(folder: Path, name: str) -> None:
    (folder / "self-signed.cnf").write_text(NAMES.format(name=name))


@pytest.fixture
def run(folder: Path) -> Run:
    """Return a function that runs the script with its clock `days` ahead: run("reload", days=800).

    A fake systemctl records its arguments in the file `asked`.
    """
    programs = folder / "programs"
    programs.mkdir()
    (programs / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n')
    (programs / "systemctl").chmod(0o755)

    def run(*arguments: str, days: int = 0) -> str:
        command = ["faketime", f"+{days} days", str(SCRIPT), str(folder), *arguments]
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    return run


def make_certificate(folder: Path, *, days: int, extensions: Sequence[str] = (), rsa: bool = False) -> None:
    """Make a certificate without the script, with the names of self-signed.cnf or with these extensions."""
    kind = ["rsa:2048"] if rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command = ["openssl", "req", "-x509", "-nodes", "-days", str(days), "-newkey", *kind]
    command += [word for extension in extensions for word in ("-addext", extension)]
    command += ["-subj", "/CN=chat"] if extensions else ["-config", str(folder / "self-signed.cnf")]
    paths = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command, *paths], check=True, capture_output=True)


def sign(folder: Path, *extensions: str) -> None:
    """Have the present certificate signed by another CA."""
    (folder / "extensions").write_text("\n".join(["basicConstraints=critical,CA:true", *extensions]))
    request = ["openssl", "x509", "-x509toreq", "-in", "cert.pem", "-signkey", "key.pem", "-out", "request"]
    other = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-keyout", "other.key"]
    signed = ["openssl", "x509", "-req", "-in", "request", "-CA", "other.pem", "-CAkey", "other.key", "-days", "3650"]
    signed += ["-extfile", "extensions", "-CAcreateserial", "-out", "cert.pem"]
    for command in (request, [*other, "-out", "other.pem"], signed):
        subprocess.run(command, check=True, capture_output=True, cwd=folder)


def text(folder: Path) -> str:
    command = ["openssl", "x509", "-in", str(folder / "cert.pem"), "-noout", "-text"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def files(folder: Path) -> tuple[str, str]:
    return (folder / "cert.pem").read_text(), (folder / "key.pem").read_text()


def test_certificate_is_no_ca_and_expires_after_825_days(folder: Path, run: Run) -> None:
    assert run() == "made\n"
    assert "CA:FALSE" in text(folder)
    assert "Certificate Sign" not in text(folder)
    assert "DNS:chat.example.org" in text(folder)
    decoded = ssl._ssl._test_decode_cert(str(folder / "cert.pem"))  # type: ignore[attr-defined]
    life = ssl.cert_time_to_seconds(decoded["notAfter"]) - ssl.cert_time_to_seconds(decoded["notBefore"])
    assert life == 825 * DAY
    assert (folder / "key.pem").stat().st_mode & 0o077 == 0
    assert (folder / "cert.pem").stat().st_mode & 0o777 == 0o644


def test_certificate_is_renewed_with_the_same_key_before_expiry(folder: Path, run: Run) -> None:
    run()
    before = files(folder)
    assert run("reload", days=790) == ""
    assert files(folder) == before
    assert not (folder / "asked").exists()
    assert run("reload", days=800) == "made\n"
    certificate, key = files(folder)
    assert certificate != before[0]
    assert key == before[1]
    assert (folder / "asked").read_text() == "try-reload-or-restart nginx.service\n"
    assert run("reload", days=1500) == ""
    assert run("reload", days=1600) == "made\n"


def test_changed_names_create_a_new_certificate(folder: Path, run: Run) -> None:
    run()
    write_names(folder, "talk.example.org")
    later = (folder / "cert.pem").stat().st_mtime + 1
    os.utime(folder / "self-signed.cnf", (later, later))
    run()
    assert "DNS:talk.example.org" in text(folder)


@pytest.mark.parametrize("days", [0, 3650])
def test_a_foreign_certificate_that_replaced_ours_is_kept(folder: Path, run: Run, days: int) -> None:
    run()
    # The administrator's own, with the same names and also self-signed.
    make_certificate(folder, days=10)
    os.utime(folder / "cert.pem", (0, 0))
    before = files(folder)
    assert run("reload", days=days) == ""
    assert files(folder) == before
    write_names(folder, "talk.example.org")
    assert run() == ""
    assert files(folder) == before


def test_a_certificate_that_existed_before_the_first_run_is_kept(folder: Path, run: Run) -> None:
    """This is the state before the first run of site.yml: the names are known, and the certificate is not ours."""
    make_certificate(folder, days=10)
    before = files(folder)
    assert run() == ""
    assert run("reload", days=3650) == ""
    assert files(folder) == before


def test_a_certificate_is_replaced_once_removed_from_the_inventory(folder: Path, run: Run) -> None:
    make_certificate(folder, days=400)
    before = files(folder)
    (folder / "from-inventory.pem").write_text(before[0])
    assert run() == "made\n"
    assert files(folder)[1] != before[1]
    assert not (folder / "from-inventory.pem").exists()
    # A certificate that was installed manually instead is not from the inventory.
    make_certificate(folder, days=400)
    own = files(folder)
    (folder / "from-inventory.pem").write_text(before[0])
    assert run() == ""
    assert files(folder) == own


def test_the_ca_certificate_of_version_0_1_0_is_replaced_once(folder: Path, run: Run) -> None:
    make_certificate(folder, days=3650, extensions=CA_EXTENSIONS_OF_0_1_0)
    assert "CA:TRUE" in text(folder)
    before = files(folder)
    made, sentence = run().splitlines()
    assert made == "made"
    assert "was a certificate authority" in sentence and f"{folder}/cert.pem" in sentence
    assert "CA:FALSE" in text(folder)
    assert files(folder)[1] != before[1]  # so that the old key can no longer sign certificates that clients trust
    assert run() == ""


@pytest.mark.parametrize("changed", ["days", "usage", "issuer", "key"])
def test_other_ca_certificates_are_kept(folder: Path, run: Run, changed: str) -> None:
    extensions = [word for word in CA_EXTENSIONS_OF_0_1_0 if changed != "usage" or "extendedKeyUsage" not in word]
    make_certificate(folder, days=3651 if changed == "days" else 3650, extensions=extensions, rsa=changed == "key")
    if changed == "issuer":
        sign(folder, *extensions)
    before = files(folder)
    assert run() == ""
    assert files(folder) == before


def test_a_certificate_of_site_yml_0_1_0_is_renewed(folder: Path, run: Run) -> None:
    """It already has the form of today's certificates, but no record that it was created here."""
    make_certificate(folder, days=825)
    before = files(folder)
    assert run() == ""
    assert run("reload", days=800) == "made\n"
    assert files(folder)[0] != before[0]


def test_a_run_repairs_the_state_that_a_killed_run_left(folder: Path, run: Run) -> None:
    run()
    # A new key without its certificate.
    key = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"]
    subprocess.run([*key, str(folder / "key.pem")], check=True, capture_output=True)
    assert run() == "made\n"
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "cert.pem", folder / "key.pem")


def test_a_missing_certificate_is_created_again(folder: Path, run: Run) -> None:
    run()
    (folder / "cert.pem").unlink()
    assert run() == "made\n"


def test_a_foreign_key_without_a_certificate_is_kept(folder: Path, run: Run) -> None:
    (folder / "key.pem").write_text("theirs")
    assert run() == ""
    assert (folder / "key.pem").read_text() == "theirs"


def test_clients_that_trust_the_certificate_verify_the_server(folder: Path, run: Run) -> None:
    run()
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "chat.example.org"]
    subprocess.run([*verify, "-CAfile", str(folder / "cert.pem"), str(folder / "cert.pem")], check=True)
