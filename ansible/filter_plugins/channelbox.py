"""Filters of the roles: addresses and names of hosts, values for configuration files, and checks of the preflight.

A check returns sentences that name a problem and its remedy; no sentence means that there is no problem.
"""

from __future__ import annotations

import difflib
import email
import io
import ipaddress
import re
import ssl
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509

AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def address(host: Mapping[str, Any]) -> str:
    """Return the address at which the other nodes reach this one, from its variables; empty if it is unknown.

    The address that the preflight found on the node comes first, then channelbox_address, then ansible_host (or the
    inventory name) if it is an address.
    """
    seen = host.get("_channelbox_node", {}).get("address", "")
    named = str(host.get("ansible_host", host.get("inventory_hostname", "")))
    return str(seen or host.get("channelbox_address", "") or (named if _is_address(named) else ""))


def names(hosts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names and addresses by which people may reach these hosts: inventory name, ansible_host, address."""
    found: dict[str, None] = {}
    for host in hosts:
        for name in (host["inventory_hostname"], host.get("ansible_host"), address(host)):
            if name:
                found[str(name)] = None
    return list(found)


def in_url(host: str) -> str:
    """Return the host as it is written in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def subject_names(hosts: Iterable[str]) -> str:
    """Return the hosts as the subject alternative names of an OpenSSL configuration."""
    return ",".join(f"{'IP' if _is_address(host) else 'DNS'}:{host}" for host in hosts)


def env_value(value: Any) -> str:
    """Return a value as it is written in an EnvironmentFile of systemd, quoted if it must be."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if re.fullmatch(r"[\w@%+=:,./\[\]-]*", text):
        return text
    return '"' + re.sub(r'(["\\`$])', r"\\\1", text) + '"'


def clock_skew(hosts: Iterable[Mapping[str, Any]], limit: float = 1.0) -> list[str]:
    """Return a sentence for each pair of nodes whose clocks certainly differ by more than `limit` seconds.

    A reading is an interval, because it takes time to reach the node. Only a difference that the two intervals cannot
    explain counts.
    """
    readings = {host["inventory_hostname"]: host["_channelbox_node"]["clock"] for host in hosts}
    return [
        f"The clock of {fast} is {readings[fast]['low'] - readings[slow]['high']:.1f} s ahead of {slow}'s"
        for fast, slow in permutations(readings, 2)
        if readings[fast]["low"] - readings[slow]["high"] > limit
    ]


def strangers(given: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return a sentence for each unknown name, with the nearest known one."""
    known = sorted(known)
    sentences = []
    for name in sorted(set(given) - set(known)):
        nearest = difflib.get_close_matches(name, known, 1, 0.6)
        hint = f"Did you mean {nearest[0]}?" if nearest else "See docs/install.md and docs/settings.md."
        sentences.append(f"{name} is not a setting of channelbox. {hint}")
    return sentences


def too_small(hosts: Iterable[Mapping[str, Any]], least: Mapping[str, float]) -> list[str]:
    """Return a sentence for each variable below its smallest allowed value, with the hosts that have this value.

    Values that are not numbers are left to the check of types.
    """
    found: dict[tuple[str, float], list[str]] = {}
    for host in hosts:
        for name, smallest in least.items():
            try:
                value = float(host[name])
            except (KeyError, TypeError, ValueError):
                continue
            if value < smallest:
                found.setdefault((name, value), []).append(host["inventory_hostname"])
    return [
        f"{name} is {value:g} on {', '.join(names)}. Set it to {least[name]:g} or more."
        for (name, value), names in sorted(found.items())
    ]


def busy_ports(listeners: Mapping[str, Mapping[str, str]], ours: Mapping[str, str]) -> list[str]:
    """Return a sentence for each port on which a program listens that is not the one in `ours`."""
    sentences = []
    for port, program in ours.items():
        taker = listeners.get(port)
        if taker and taker["program"] != program:
            stop = f"systemctl disable --now {taker['unit']}" if taker["unit"] else "stop it"
            sentences.append(f"Port {port} is in use by {taker['program']}. Free it for {program}: {stop}")
    return sentences


def unreachable(targets: Iterable[Mapping[str, str]], source: str) -> list[str]:
    """Return a sentence for each target that a node at the address `source` could not reach."""
    return [
        f"{target['target']} is not reachable: {target['why']}. Open this port for {source} in the firewalls of that "
        "node and in between, or correct ansible_host or channelbox_address in the inventory."
        for target in targets
    ]


def certificate_problem(pair: Sequence[str]) -> str:
    """Return why nginx could not use a certificate and its key, two files on the controller; empty if it can."""
    certificate, key = pair
    try:
        found = x509.load_pem_x509_certificates(Path(certificate).read_bytes())[0]
    except (OSError, ValueError):
        return f"{certificate} is not a certificate in PEM format."
    if found.not_valid_after_utc < datetime.now(UTC):
        return f"{certificate} expired on {found.not_valid_after_utc:%Y-%m-%d}."
    try:
        # nginx would ask for the password of a key that has one, so such a key counts as unreadable.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError):  # an SSLError is an OSError
        return f"{key} is not the private key of {certificate}, or has a password, which nginx cannot enter."
    return ""


def deb_field(deb: str, field: str) -> str:
    """Return a field of a package's control file, empty if it has none. Works on a controller without dpkg."""
    archive = Path(deb).read_bytes()
    at = len(AR_MAGIC)
    while at < len(archive):  # each member is a header of fixed width, and its bytes padded to an even number
        name, size = archive[at : at + 16].decode().strip(" /"), int(archive[at + 48 : at + 58])
        at += AR_HEADER_BYTES
        if name.startswith("control.tar"):
            with tarfile.open(fileobj=io.BytesIO(archive[at : at + size])) as members:
                control = members.extractfile("./control")
                assert control is not None
                return email.message_from_bytes(control.read()).get(field, "")
        at += size + size % 2
    return ""


class _SpecLoader(yaml.SafeLoader):
    """Loads YAML with Ansible's tag `!unsafe`, which marks text that must not be evaluated as a template."""


_SpecLoader.add_constructor("!unsafe", lambda _loader, node: node.value)


def argument_specs(roles: str) -> dict[str, Any]:
    """Return the options of all roles in this folder, without their defaults.

    They come from meta/argument_specs.yml of each role and from shared_vars/meta/settings.yml. A default would be
    checked in place of a variable that is not set yet, and those that are templates do not have the type of a number.
    """
    options: dict[str, Any] = {}
    for path in sorted(Path(roles).glob("*/meta/argument_specs.yml")):
        specs = yaml.load(path.read_text(), _SpecLoader)["argument_specs"]
        for name, option in specs["main"].get("options", {}).items():
            options[name] = {key: value for key, value in option.items() if key != "default"}
    settings = yaml.safe_load(Path(roles, "shared_vars/meta/settings.yml").read_text())
    options["channelbox_settings"] = {**options["channelbox_settings"], "options": settings}
    return options


class FilterModule:
    """Registers the filters under the project's prefix."""

    def filters(self) -> dict[str, Any]:
        return {
            "channelbox_address": address,
            "channelbox_names": names,
            "channelbox_in_url": in_url,
            "channelbox_subject_names": subject_names,
            "channelbox_env_value": env_value,
            "channelbox_clock_skew": clock_skew,
            "channelbox_busy_ports": busy_ports,
            "channelbox_certificate_problem": certificate_problem,
            "channelbox_deb_field": deb_field,
            "channelbox_unreachable": unreachable,
            "channelbox_strangers": strangers,
            "channelbox_too_small": too_small,
            "channelbox_argument_specs": argument_specs,
        }
