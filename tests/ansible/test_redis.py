"""Redis as the role configures it for a cluster: it writes nothing to disk, and neither do replicas."""

import time
from pathlib import Path

import jinja2
import redis
from tests.support.servers import RedisServer, free_port

TEMPLATE = Path(__file__).parents[2] / "ansible/roles/redis/templates/channelbox.conf.j2"
PASSWORD = "a-password-of-the-cluster"
SECRET_VALUE = b"what was said in confidence"
SYNC_SECONDS = 30


class ClusterRedis(RedisServer):
    """A Redis with the role's configuration, which writes its files to a folder of their own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        super().__init__(folder, port=self.port)
        self.files = folder / "data"
        self.files.mkdir()
        environment = jinja2.Environment(trim_blocks=True, autoescape=False)
        environment.filters["comment"] = lambda text: f"# {text}"
        configuration = folder / "channelbox.conf"
        configuration.write_text(
            environment.from_string(TEMPLATE.read_text()).render(
                ansible_managed="Ansible",
                _channelbox_redis_listen=["127.0.0.1"],
                _channelbox_redis_port=self.port,
                _channelbox_redis_password=PASSWORD,
                _channelbox_sentinel=False,
                channelbox_redis_memory_mb=64,
            )
        )
        # As in Debian's configuration, which the role's follows, but without the 5 s before replication begins.
        before = ["--save", "3600 1 300 100 60 10000", "--dir", str(self.files), "--unixsocket", str(self.socket)]
        before += ["--repl-diskless-sync-delay", "0"]
        self._command[self._command.index("redis-server") + 1 :] = [*before, "--include", str(configuration), *options]

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), password=PASSWORD, socket_timeout=5)


def test_replication_works_and_writes_no_files(tmp_path: Path) -> None:
    master = ClusterRedis(tmp_path / "master")
    replica = ClusterRedis(tmp_path / "replica", "--replicaof", "127.0.0.1", str(master.port))
    try:
        master.start()
        with master.client() as client:
            client.set("said", SECRET_VALUE)
        replica.start()
        with replica.client() as client:
            deadline = time.monotonic() + SYNC_SECONDS
            while client.get("said") != SECRET_VALUE:
                assert time.monotonic() < deadline, client.info("replication")
                time.sleep(0.05)
            # Replicate again, with previous data.
            client.execute_command("REPLICAOF", "NO", "ONE")
            client.set("said", b"elsewhere")
            client.execute_command("REPLICAOF", "127.0.0.1", master.port)
            while client.get("said") != SECRET_VALUE:
                assert time.monotonic() < deadline, client.info("replication")
                time.sleep(0.05)
            assert client.info("persistence")["aof_enabled"] == 0
    finally:
        replica.stop()
        master.stop()
    written = [path.name for path in (*master.files.iterdir(), *replica.files.iterdir())]
    assert written == []
    assert SECRET_VALUE not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
