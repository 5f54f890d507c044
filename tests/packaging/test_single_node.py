"""The certificate of a single node when the package is installed and upgraded."""

import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from tests.packaging.test_self_signed import CA_EXTENSIONS_OF_0_1_0, SCRIPT, files, make_certificate, text

PROGRAM = Path(__file__).parents[2] / "packaging/debian/single-node"
NAMES = ["chat.example.org", "localhost"], ["192.0.2.1", "::1"]


@pytest.fixture
def program(tmp_path: Path) -> ModuleType:
    """Load the program, with a temporary folder for certificates."""
    loader = SourceFileLoader("single_node", str(PROGRAM))
    spec = spec_from_loader("single_node", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    module.TLS = tmp_path  # type: ignore[attr-defined]
    module.CERTIFICATE_NAMES = tmp_path / "self-signed.cnf"  # type: ignore[attr-defined]
    module.SELF_SIGNED = str(SCRIPT)  # type: ignore[attr-defined]
    return module


def test_a_new_node_gets_a_certificate_with_its_names_and_keeps_it(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program._write_certificate(*NAMES)
    assert "DNS:chat.example.org, DNS:localhost, IP Address:192.0.2.1" in text(tmp_path)
    before = files(tmp_path)
    program._write_certificate(["other.example.org"], [])
    assert files(tmp_path) == before
    assert capsys.readouterr().out == ""


def test_an_upgrade_replaces_and_reports_the_ca_of_version_0_1_0(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_certificate(tmp_path, days=3650, extensions=CA_EXTENSIONS_OF_0_1_0)
    program._write_certificate(*NAMES)
    assert "CA:FALSE" in text(tmp_path) and "DNS:chat.example.org" in text(tmp_path)
    output = capsys.readouterr().out
    assert output.startswith("channelbox: The self-signed certificate of version 0.1.0 was a certificate authority")
    assert f"{tmp_path}/cert.pem" in output
    program._write_certificate(*NAMES)
    assert capsys.readouterr().out == ""


def test_an_upgrade_keeps_a_manually_installed_certificate(program: ModuleType, tmp_path: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=own", "-days", "3650"]
    paths = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run([*command, *paths], check=True, capture_output=True)
    before = files(tmp_path)
    program._write_certificate(*NAMES)
    assert files(tmp_path) == before
