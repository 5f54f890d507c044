"""The podman commands that the node tool uses, each as a function."""

import json
import subprocess
from typing import Any

from .machine import podman_environment
from .run import run, succeeds

LABEL = "channelbox.cluster"


def podman(*arguments: str, stdin: str | None = None) -> str:
    """Run podman and return its output; raise NodeError if it fails."""
    return run(["podman", *arguments], stdin=stdin, env=podman_environment())


def image_exists(image: str) -> bool:
    return succeeds(["podman", "image", "exists", image], env=podman_environment())


def network_exists(network: str) -> bool:
    return succeeds(["podman", "network", "exists", network], env=podman_environment())


def inspect_network(network: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(podman("network", "inspect", network))[0]
    return found


def inspect_container(container: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(podman("container", "inspect", container))[0]
    return found


def containers_of(network: str) -> list[str]:
    """Return the names of the containers that were made for a cluster's network, running or not."""
    return podman("ps", "--all", "--filter", f"label={LABEL}={network}", "--format", "{{.Names}}").split()


def running(container: str) -> bool:
    return succeeds(["podman", "exec", container, "true"], env=podman_environment())


def execute(container: str, command: list[str], *, tty: bool = False) -> int:
    """Run a command in a container, connected to this terminal, and return its exit code."""
    options = ["--interactive", *(["--tty"] if tty else [])]
    return subprocess.run(["podman", "exec", *options, container, *command], env=podman_environment()).returncode
