"""The Redis of a single node. If a test fails, see docs/decisions/redis-of-a-single-node.md for what to do."""

import re
import subprocess
import tempfile
from pathlib import Path

from tests.support.servers import RedisServer

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / "packaging/debian"


def linked_program() -> Path:
    """Return the target of the package's link."""
    rules = (DEBIAN / "rules").read_text()
    return Path(re.findall(r"ln -s (\S+) \$\(ROOT\)/usr/lib/channelbox/redis-server", rules)[0])


def test_debians_redis_checker_is_the_server_under_another_name(tmp_path: Path) -> None:
    link = tmp_path / "redis-server"
    link.symlink_to(linked_program())
    output = subprocess.run([link, "--version"], check=True, capture_output=True, text=True).stdout
    assert output.startswith("Redis server v=")


def test_the_package_depends_on_the_package_of_that_program() -> None:
    owner = subprocess.run(["dpkg", "--search", linked_program()], check=True, capture_output=True, text=True).stdout
    package = owner.partition(":")[0]
    assert re.search(rf"^ {package} ", (DEBIAN / "control").read_text(), re.MULTILINE)


def test_redis_writes_nothing_to_disk() -> None:
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
