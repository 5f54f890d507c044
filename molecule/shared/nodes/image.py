"""Node images: a minimal Debian that boots systemd and is reached over SSH, kept in build/images.

The name of an image contains a hash of everything that it is made from, so only a changed recipe makes a new image.
The archive stays in build/images: importing it takes seconds, making it takes a minute.
"""

import fcntl
import hashlib
from pathlib import Path

from .paths import IMAGES
from .podman import image_exists, podman
from .run import NodeError, run, say

RELEASES = ("bookworm", "trixie")
USER = "deploy"

# Without libkmod2, trixie boots degraded. Tests use nftables to cut nodes off.
_PACKAGES = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "libkmod2",
    "python3",
    "python3-apt",
    "ca-certificates",
    "iproute2",
    "procps",
    "sudo",
    "openssh-server",
    "nftables",
]

# As the IT department of a customer hands a server over: SSH with a key, a user with sudo, no root login.
_FILES = {
    "/etc/ssh/sshd_config.d/nodes.conf": "PermitRootLogin no\nPasswordAuthentication no\n",
    f"/etc/sudoers.d/{USER}": f"{USER} ALL=(ALL) NOPASSWD: ALL\n",
    "/etc/systemd/system/ssh-host-keys.service": (
        "[Unit]\nDescription=SSH host keys of this node\nBefore=ssh.service ssh.socket\n"
        "ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key\n\n"
        "[Service]\nType=oneshot\nExecStart=/usr/bin/ssh-keygen -A\n\n[Install]\nWantedBy=multi-user.target\n"
    ),
}
_COMMANDS = (
    f"useradd --create-home --shell /bin/bash {USER}",
    f"install -d -m 0700 -o {USER} -g {USER} /home/{USER}/.ssh",
    f"chmod 0440 /etc/sudoers.d/{USER}",
    "rm -f /etc/ssh/ssh_host_*",
    "systemctl enable ssh-host-keys.service",
    "truncate -s 0 /etc/machine-id",
)


def image_name(release: str) -> str:
    """Return the name of a release's image, whether it exists or not; raise NodeError for an unsupported release."""
    if release not in RELEASES:
        raise NodeError(f"There is no node image of {release!r}; there is one of {' and of '.join(RELEASES)}.")
    recipe = repr((release, _PACKAGES, _FILES, _COMMANDS))
    return f"localhost/channelbox-node:{release}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def ensure_image(release: str) -> str:
    """Make the image of a release unless it exists, and return its name. Safe to call twice at the same time."""
    image = image_name(release)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (IMAGES / f"{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if image_exists(image):
            return image
        archive = IMAGES / f"{image.rpartition(':')[2]}.tar"
        if not archive.exists():
            say(f"making a Debian {release} system for the nodes (about a minute, once)")
            _bootstrap(release, archive)
        say(f"importing it as {image}")
        changes = [f"--change={change}" for change in ('CMD ["/sbin/init"]', "STOPSIGNAL SIGRTMIN+3")]
        podman("import", *changes, str(archive), image)
    return image


def _bootstrap(release: str, archive: Path) -> None:
    hooks = [f'--customize-hook=chroot "$1" {command}' for command in _COMMANDS]
    writes = [f'--customize-hook=printf %s {_shell_quoted(text)} > "$1"{path}' for path, text in _FILES.items()]
    part = archive.with_suffix(".part")
    packages = f"--include={','.join(_PACKAGES)}"
    run(["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", packages, *writes, *hooks, release, str(part)])
    part.rename(archive)


def _shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
