"""Where the node tool keeps what it makes: everything is below build/, which git ignores."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build"
IMAGES = BUILD / "images"
NODES = BUILD / "nodes"
KEY = NODES / "id_ed25519"
CONTAINERS_CONF = NODES / "containers.conf"


def cluster_dir(cluster: str) -> Path:
    """The folder of one cluster: inventory, known hosts, ssh configuration."""
    return NODES / cluster
