"""The Redis of a single node: docs/decisions/redis-of-a-single-node.md says what to do when one of these fails."""

import re
import subprocess
import tempfile
from pathlib import Path

from tests.support.servers import RedisServer

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / "packaging/debian"


def linked_program() -> Path:
    """Return what the package's link leads to."""
    rules = (DEBIAN / "rules").read_text()
    return Path(re.findall(r"ln -s (\S+) \$\(ROOT\)/usr/lib/channelbox/redis-server", rules)[0])


def test_debians_checker_is_the_server_when_it_is_called_so(tmp_path: Path) -> None:
    link = tmp_path / "redis-server"
    link.symlink_to(linked_program())
    said = subprocess.run([link, "--version"], check=True, capture_output=True, text=True).stdout
    assert said.startswith("Redis server v=")


def test_it_is_in_the_package_that_ours_depends_on() -> None:
    owner = subprocess.run(["dpkg", "--search", linked_program()], check=True, capture_output=True, text=True).stdout
    package = owner.partition(":")[0]
    assert re.search(rf"^ {package} ", (DEBIAN / "control").read_text(), re.MULTILINE)


def test_it_keeps_nothing_on_the_disk() -> None:
    with tempfile.TemporaryDirectory(prefix="channelbox-") as folder:
        server = RedisServer(Path(folder))
        link = Path(folder) / "redis-server"
        link.symlink_to(linked_program())
        settings = Path(folder) / "redis.conf"
        settings.write_text((DEBIAN / "redis.conf").read_text().replace("/run/channelbox", folder))
        server._command[server._command.index("redis-server") :] = [str(link), str(settings)]
        server.start()
        with server.client() as client:
            client.set("said", "what was said")
            assert client.config_get("save", "appendonly", "maxmemory-policy") == {
                "save": "",
                "appendonly": "no",
                "maxmemory-policy": "noeviction",
            }
        server.stop()
        left = [path for path in Path(folder).iterdir() if path.is_file() and b"what was said" in path.read_bytes()]
        assert left == []
