"""Paths of the files that the node tool makes: all are below build/, which git ignores."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build"
IMAGES = BUILD / "images"
NODES = BUILD / "nodes"
KEY = NODES / "id_ed25519"
CONTAINERS_CONF = NODES / "containers.conf"


def cluster_dir(cluster: str) -> Path:
    """Return the folder of one cluster, which holds its inventory, known hosts and SSH configuration."""
    return NODES / cluster
