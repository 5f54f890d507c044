#!/usr/bin/python3
"""Ansible module: gather what the preflight must know about a node. It changes nothing."""

from __future__ import annotations

import contextlib
import ipaddress
import platform
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: channelbox_probe
short_description: Gathers release, memory, disk, listening ports, address and clock of a node
description: The action plugin of the same name adds C(clock). Nothing is changed.
options:
  address:
    description: How the inventory reaches the node. It is returned as the node's address if it is one of its own.
    type: str
    required: true
  ports:
    description: The ports to look for listeners on.
    type: list
    elements: int
    default: []
  paths:
    description: Folders on whose file systems the free space is measured. A folder need not exist yet.
    type: list
    elements: str
    default: []
"""

LISTENING = "0A"


def release() -> tuple[str, str]:
    """Return the distribution and its release, as in debian, bookworm."""
    values = {}
    for line in Path("/etc/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        values[name] = value.strip('"')
    return values.get("ID", ""), values.get("VERSION_CODENAME", "")


def memory_mb() -> int:
    """Return the total memory of the node in MiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:")) // 1024


def free_mb(path: str) -> int:
    """Return the free space, in MiB, of the file system that the path is on or will be on."""
    place = Path(path)
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free // 1024**2


def own_address(wanted: str) -> str:
    """Return the address of `wanted` (a name or an address) if it is this node's, else that of the default route."""
    for candidate in _resolve(wanted):
        with socket.socket(socket.AF_INET6 if ":" in candidate else socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((candidate, 0))
            except OSError:
                continue
            if not ipaddress.ip_address(candidate).is_loopback:
                return candidate
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # No packet is sent: connecting a datagram socket only looks up the route.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return wanted
        return str(probe.getsockname()[0])


def _resolve(name: str) -> list[str]:
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except OSError:
        return []


def listeners(ports: list[int]) -> dict[str, dict[str, str]]:
    """Return the program and the unit that listen on each of the ports that have a listener."""
    inodes = {}
    for table in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == LISTENING and port in ports:
                inodes[f"socket:[{fields[9]}]"] = port
    found = {str(port): {"program": "an unknown program", "unit": ""} for port in inodes.values()}
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        # A process may end while it is looked at.
        with contextlib.suppress(OSError):
            for handle in (process / "fd").iterdir():
                held = inodes.get(str(handle.readlink()))
                if held:
                    found[str(held)] = {"program": (process / "comm").read_text().strip(), "unit": _unit(process)}
    return found


def _unit(process: Path) -> str:
    control_groups = (process / "cgroup").read_text()
    units = re.findall(r"/([^/\s]+\.(?:service|socket))$", control_groups, re.MULTILINE)
    return units[-1] if units else ""


def installed() -> str:
    """Return the version of the package channelbox; empty if it is not installed, or not completely."""
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", "channelbox"]
    status, _, version = subprocess.run(command, capture_output=True, text=True).stdout.partition(" ")
    return version if status == "installed" else ""


def wire_format() -> str:
    """Return the number of the wire format of channelbox's processes here; empty if none run, or those of 0.1.0."""
    kept = Path("/etc/channelbox/.wire-format")
    return kept.read_text().strip() if kept.exists() else ""


def interrupted() -> bool:
    """Return whether dpkg was interrupted, as a killed run leaves it."""
    audit = subprocess.run(["dpkg", "--audit"], capture_output=True, text=True)
    return bool(audit.stdout.strip() or any(Path("/var/lib/dpkg/updates").iterdir()))


def packages_known() -> bool:
    """Return whether apt has package lists that are at most a day old."""
    lists = Path("/var/lib/apt/lists")
    return any(lists.glob("*_Packages*")) and time.time() - lists.stat().st_mtime < 86_400


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "int", "default": []},
            "paths": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    distribution, codename = release()
    debian = distribution == "debian"
    module.exit_json(
        changed=False,
        distribution=distribution,
        release=codename,
        architecture=platform.machine(),
        memory_mb=memory_mb(),
        free_mb={path: free_mb(path) for path in module.params["paths"]},
        listeners=listeners(module.params["ports"]),
        address=own_address(module.params["address"]),
        ipv6=Path("/proc/net/if_inet6").exists(),
        installed=installed() if debian else "",
        wire_format=wire_format(),
        packages_known=packages_known(),
        interrupted=interrupted() if debian else False,
    )


if __name__ == "__main__":
    main()
