"""Capabilities of this machine: whether it can make nodes, its limits, and the packages that it lacks."""

import os
import resource
import shutil
from pathlib import Path

from .paths import CONTAINERS_CONF, NODES
from .run import NodeError, run, say, succeeds

# Required command -> Debian package that contains it
_NEEDED = {
    "podman": "podman",
    "runc": "runc",
    "mmdebstrap": "mmdebstrap",
    "iptables": "iptables",
    "nft": "nftables",
    "ssh-keygen": "openssh-client",
    "/usr/lib/podman/netavark": "netavark",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
}
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21
_INSTEAD = "`make run` starts channelbox on this machine alone, without nodes."

# podman's defaults for a container that root starts
_NOFILE, _NPROC = 1048576, 4194304


def why_not() -> str | None:
    """Return why this machine cannot make nodes, as a sentence with the remedy; None if it can. Change nothing."""
    if os.geteuid() != 0:
        return "Nodes are containers that boot systemd; making them needs root: run this again with sudo."
    if not (_has_capability(_CAP_SYS_ADMIN) and _has_capability(_CAP_NET_ADMIN)):
        return (
            "Root has no CAP_SYS_ADMIN or no CAP_NET_ADMIN here, so it cannot make containers: "
            "this is probably itself an unprivileged container. Use a machine of its own, or a privileged container."
        )
    if not succeeds(["unshare", "--mount", "--net", "--pid", "--fork", "true"]):
        return "The kernel refuses new namespaces (unshare failed): use a machine that allows containers."
    if not os.access("/sys/fs/cgroup", os.W_OK) or not any(os.scandir("/sys/fs/cgroup")):
        return "/sys/fs/cgroup is not mounted writable, and systemd in a node needs it: use a privileged machine."
    if missing_packages() and not shutil.which("apt-get"):
        return f"Please install {', '.join(missing_packages())}: this machine has no apt-get to do it with."
    return None


def refuse_unless_able() -> None:
    """Raise NodeError if this machine cannot make nodes, with the reason and an alternative."""
    reason = why_not()
    if reason:
        raise NodeError(f"{reason}\n{_INSTEAD}")


def prepare() -> None:
    """Install missing packages and write podman's configuration; raise NodeError if nodes cannot be made."""
    refuse_unless_able()
    _install()
    NODES.mkdir(parents=True, exist_ok=True)
    conf = _containers_conf()
    if not CONTAINERS_CONF.exists() or CONTAINERS_CONF.read_text() != conf:
        part = CONTAINERS_CONF.with_suffix(f".{os.getpid()}.part")
        part.write_text(conf)
        part.rename(CONTAINERS_CONF)


def podman_environment() -> dict[str, str]:
    """Return the environment in which every podman command of this tool runs."""
    return {**os.environ, "CONTAINERS_CONF": str(CONTAINERS_CONF)}


def missing_packages() -> list[str]:
    """Return the Debian packages whose commands are missing on this machine."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [package for command, package in _NEEDED.items() if not shutil.which(command, path=path)]


def _install() -> None:
    packages = missing_packages()
    if not packages:
        return
    say(f"installing {' '.join(packages)} with apt")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wait = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=600"]
    run([*wait, "update"], env=env)
    run([*wait, "install", "-y", "--no-install-recommends", *packages], env=env)


def _has_capability(number: int) -> bool:
    with Path("/proc/self/status").open() as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


def _containers_conf() -> str:
    # crun refuses the hybrid cgroup layout that some machines have; runc accepts every layout.
    lines = ["[engine]", 'runtime = "runc"', 'events_logger = "file"', "", "[network]", 'network_backend = "netavark"']
    limits = _lowered_limits()
    if limits:
        lines += ["", "[containers]", f"default_ulimits = [{', '.join(limits)}]"]
    return "\n".join(lines) + "\n"


def _lowered_limits() -> list[str]:
    """Return the limits to configure in podman because its defaults exceed what root may set on this machine."""
    pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())  # podman lowers the limit of processes to this
    wanted = {"nofile": (resource.RLIMIT_NOFILE, _NOFILE, _NOFILE), "nproc": (resource.RLIMIT_NPROC, _NPROC, pid_max)}
    lowered = []
    for name, (kind, default, most) in wanted.items():
        hard = resource.getrlimit(kind)[1]
        if not succeeds(["prlimit", f"--{name}={default}:{default}", "true"]):
            lowered.append(f'"{name}={min(hard, most)}:{min(hard, most)}"')
    return lowered
