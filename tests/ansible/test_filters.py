"""The filters of the roles, and the lookup of secrets."""

import importlib.util
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from channelbox.cli.environment_file import parse

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"


def plugin(path: str) -> ModuleType:
    """Load a plugin by its path, as Ansible does."""
    name = "_" + path.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, ANSIBLE / path)
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


filters = plugin("filter_plugins/channelbox.py")
lookup_loader.add_directory(str(ANSIBLE / "lookup_plugins"))


def secret(name: str, folder: Path, **options: Any) -> str:
    (value,) = lookup_loader.get("channelbox_secret").run([name], folder=str(folder), **options)
    return str(value)


def host(name: str, **variables: Any) -> dict[str, Any]:
    return {"inventory_hostname": name, **variables}


def test_detected_address_takes_precedence_over_the_inventory() -> None:
    assert (
        filters.address(host("web1", _channelbox_node={"address": "10.0.0.1"}, ansible_host="192.0.2.1")) == "10.0.0.1"
    )
    assert filters.address(host("web1", channelbox_address="10.0.0.2", ansible_host="192.0.2.1")) == "10.0.0.2"
    assert filters.address(host("web1", ansible_host="2001:db8::1")) == "2001:db8::1"
    assert filters.address(host("web1", ansible_host="web1.example.org")) == ""


def test_balancer_names_include_host_names_and_addresses() -> None:
    balancers = [host("lb1", ansible_host="lb1.example.org", channelbox_address="192.0.2.1"), host("192.0.2.2")]
    assert filters.names(balancers) == ["lb1", "lb1.example.org", "192.0.2.1", "192.0.2.2"]


def test_subject_names_distinguish_addresses_from_names() -> None:
    assert filters.subject_names(["chat", "192.0.2.1", "2001:db8::1"]) == "DNS:chat,IP:192.0.2.1,IP:2001:db8::1"


@pytest.mark.parametrize(
    "value", ["", "plain", "a b", 'say "hi"', "100 % & $HOME `id` \\ ; #", "redis://:pw@[::1]:1/0"]
)
def test_written_settings_are_read_back_unchanged(value: str) -> None:
    assert parse(f"NAME={filters.env_value(value)}\n") == {"NAME": value}


def test_booleans_are_written_as_true_and_false() -> None:
    assert (filters.env_value(True), filters.env_value(False)) == ("true", "false")


def test_clock_skew_ignores_differences_explained_by_latency() -> None:
    def reading(name: str, low: float, high: float) -> dict[str, Any]:
        return host(name, _channelbox_node={"clock": {"low": low, "high": high}})

    assert filters.clock_skew([reading("a", -0.1, 0.1), reading("b", 0.0, 3.0)]) == []
    (sentence,) = filters.clock_skew([reading("a", -0.1, 0.1), reading("b", 1.2, 1.4)])
    assert sentence == "The clock of b is 1.1 s ahead of a's"


def test_a_secret_is_created_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    first = secret("redis_password", folder)
    assert first == secret("redis_password", folder)
    assert len(first) >= 50
    assert stat.S_IMODE((folder / "redis_password").stat().st_mode) == 0o600
    assert [entry.name for entry in folder.iterdir()] == ["redis_password"]


def test_check_mode_writes_no_secret(tmp_path: Path) -> None:
    assert secret("secret_key", tmp_path, keep=False)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_secret_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch()
    with pytest.raises(AnsibleLookupError, match="Restore the file from your backup"):
        secret("secret_key", tmp_path)


def certificate(folder: Path, name: str, days: int) -> tuple[str, str]:
    """Write a certificate that is valid for this many more days, and its key; return their paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chat")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(paths[0]), str(paths[1])


def test_a_certificate_and_its_key_have_no_problem(tmp_path: Path) -> None:
    assert filters.certificate_problem(certificate(tmp_path, "own", 10)) == ""


def test_unusable_certificates_and_keys_are_reported(tmp_path: Path) -> None:
    own, key = certificate(tmp_path, "own", 10)
    old, its_key = certificate(tmp_path, "old", -1)
    assert "is not the private key of" in filters.certificate_problem((own, its_key))
    assert "expired on" in filters.certificate_problem((old, its_key))
    assert "is not a certificate in PEM" in filters.certificate_problem((key, key))


@pytest.mark.parametrize("compression", ["xz", "none"])
def test_a_field_of_a_package_is_read_without_dpkg(tmp_path: Path, compression: str) -> None:
    control = tmp_path / "package" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: box\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@box.invalid>\nWire-Format: 7\n"
        "Description: a box\n that is empty\n"
    )
    deb = tmp_path / "box.deb"
    build = ["dpkg-deb", f"-Z{compression}", "--uniform-compression", "--build", str(tmp_path / "package"), str(deb)]
    subprocess.run(build, check=True, capture_output=True)
    assert filters.deb_field(str(deb), "Wire-Format") == "7"
    assert filters.deb_field(str(deb), "Description") == "a box\n that is empty"
    assert filters.deb_field(str(deb), "Multi-Arch") == ""
