"""Access of Ansible to a cluster: an SSH key of this checkout, the host keys of the nodes, and an inventory."""

import json
from typing import Any

from .image import USER
from .names import container_name, network_name
from .paths import KEY, cluster_dir
from .plan import Plan
from .podman import inspect_container, podman
from .run import run, say


def open_ssh(plan: Plan) -> None:
    """Authorise this checkout's key for the sudo user; write known hosts, SSH configuration and inventory."""
    folder = cluster_dir(plan.cluster)
    folder.mkdir(parents=True, exist_ok=True)
    public = _public_key()
    addresses, known = {}, []
    for node in plan.nodes:
        name = container_name(plan.cluster, node.name)
        keys = f"/home/{USER}/.ssh/authorized_keys"
        podman("exec", "-i", name, "install", "-m", "0600", "-o", USER, "-g", USER, "/dev/stdin", keys, stdin=public)
        host_key = podman("exec", name, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
        networks = inspect_container(name)["NetworkSettings"]["Networks"]
        addresses[node.name] = networks[network_name(plan.cluster)]["IPAddress"]
        known.append(f"{node.name},{addresses[node.name]} {' '.join(host_key)}\n")
    (folder / "known_hosts").write_text("".join(known))
    (folder / "ssh_config").write_text(_ssh_config(plan, addresses))
    (folder / "inventory.json").write_text(json.dumps(_inventory(plan, addresses), indent=2) + "\n")


def _public_key() -> str:
    if not KEY.exists():
        say("making an ssh key for the nodes")
        KEY.parent.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "channelbox nodes", "-f", str(KEY)])
    return KEY.with_suffix(".pub").read_text()


def _inventory(plan: Plan, addresses: dict[str, str]) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for node in plan.nodes:
        for group in node.groups:
            groups.setdefault(group, {"hosts": {}})["hosts"][node.name] = {}
    hosts = {name: {"ansible_host": address} for name, address in addresses.items()}
    ssh = {
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(KEY),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={cluster_dir(plan.cluster) / 'known_hosts'} "
        "-o StrictHostKeyChecking=yes -o IdentitiesOnly=yes",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return {"all": {"hosts": hosts, "vars": {**ssh, **plan.variables}, "children": groups}}


def _ssh_config(plan: Plan, addresses: dict[str, str]) -> str:
    known = cluster_dir(plan.cluster) / "known_hosts"
    blocks = [
        f"Host {node.name}\n  HostName {addresses[node.name]}\n  User {USER}\n  IdentityFile {KEY}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n  StrictHostKeyChecking yes\n"
        for node in plan.nodes
    ]
    return "\n".join(blocks)
