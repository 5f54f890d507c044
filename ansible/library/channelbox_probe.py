#!/usr/bin/python3
"""Ansible module: what the preflight must know of a node. It changes nothing."""

from __future__ import annotations

import ipaddress
import os
import platform
import re
import shutil
import socket
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: channelbox_probe
short_description: Tells release, memory, disk, listening ports, address and clock of a node
description: An action plugin of the same name adds C(clock). Nothing is changed.
options:
  address:
    description: How the inventory reaches the node; taken as its address if it is one of the node's own.
    type: str
    required: true
  ports:
    description: The ports that are to be looked at.
    type: list
    elements: int
    default: []
  paths:
    description: Folders whose file systems' free space is wanted. A folder may be missing yet.
    type: list
    elements: str
    default: []
"""

LISTENING = "0A"


def release() -> tuple[str, str]:
    """The distribution and its release, as in debian, bookworm."""
    values = {}
    with open("/etc/os-release") as lines:
        for line in lines:
            name, _, value = line.strip().partition("=")
            values[name] = value.strip('"')
    return values.get("ID", ""), values.get("VERSION_CODENAME", "")


def memory_mb() -> int:
    """All memory of the node."""
    with open("/proc/meminfo") as lines:
        kib = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))
    return kib // 1024


def free_mb(path: str) -> int:
    """Free space of the file system that the path is on, or will be on."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free // 1024**2


def own_address(wanted: str) -> str:
    """The wanted address or name's, if it is one of this node's; else the one that the default route goes out by."""
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
            # No packet is sent: connecting a datagram socket only asks for the route.
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
    """For each of the ports on which somebody listens: the program and its unit."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(table):
            with open(table) as lines:
                for line in list(lines)[1:]:
                    fields = line.split()
                    port = int(fields[1].rpartition(":")[2], 16)
                    if fields[3] == LISTENING and port in ports:
                        inodes[f"socket:[{fields[9]}]"] = port
    found = {str(port): {"program": "an unknown program", "unit": ""} for port in inodes.values()}
    for pid in filter(str.isdigit, os.listdir("/proc")) if inodes else ():
        try:
            for handle in os.listdir(f"/proc/{pid}/fd"):
                port = inodes.get(os.readlink(f"/proc/{pid}/fd/{handle}"))
                if port:
                    found[str(port)] = {"program": _read(f"/proc/{pid}/comm").strip(), "unit": _unit(pid)}
        except OSError:
            continue  # it ended meanwhile
    return found


def _unit(pid: str) -> str:
    units = re.findall(r"/([^/\s]+\.(?:service|socket))$", _read(f"/proc/{pid}/cgroup"), re.MULTILINE)
    return units[-1] if units else ""


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def installed() -> str:
    """The version of the package channelbox, empty if it is not there or not whole."""
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", "channelbox"]
    status, _, version = subprocess.run(command, capture_output=True, text=True).stdout.partition(" ")
    return version if status == "installed" else ""


def interrupted() -> bool:
    """Whether dpkg was stopped half-way, as a killed run leaves it."""
    audit = subprocess.run(["dpkg", "--audit"], capture_output=True, text=True)
    return bool(audit.stdout.strip() or os.listdir("/var/lib/dpkg/updates"))


def packages_known() -> bool:
    """Whether apt has lists of packages, not older than a day."""
    lists = "/var/lib/apt/lists"
    known = os.path.isdir(lists) and any("_Packages" in name for name in os.listdir(lists))
    return known and time.time() - os.path.getmtime(lists) < 86_400


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
        ipv6=os.path.exists("/proc/net/if_inet6"),
        installed=installed() if debian else "",
        packages_known=packages_known(),
        interrupted=interrupted() if debian else False,
    )


if __name__ == "__main__":
    main()
