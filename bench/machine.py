"""Describes the machine on which the figures were measured."""

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("django", "channels", "channels-redis", "redis", "uvicorn", "uvloop", "websockets")
PROGRAMS = {"redis": ["redis-server", "--version"], "nginx": ["nginx", "-v"]}


def describe(quick: bool) -> dict[str, Any]:
    """Return the machine, its load before the run, and the versions of the software that is compared."""
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "processor": processor[1] if processor else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(memory[1]) / 1024**2, 1) if memory else None,
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES}
        | {name: found for name, command in PROGRAMS.items() if (found := _version(command))}
        | ({"nchan": nchan} if (nchan := _package("libnginx-mod-nchan")) else {}),
    }


def _version(command: list[str]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    result = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"\d+\.\d+\.\d+", result.stdout + result.stderr)
    return found[0] if found else None


def _package(name: str) -> str | None:
    result = subprocess.run(["dpkg-query", "-W", "-f=${Version}", name], capture_output=True, text=True)
    return result.stdout.strip() or None
