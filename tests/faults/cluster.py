"""The demo's six nodes as the target: faults of whole nodes, and the faults of processes through systemd.

Clients connect through the load balancer's port on 127.0.0.1; everything else goes through podman, so that it also
reaches a node whose network is cut.
"""

import asyncio
import contextlib
import random
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.faults.database import ROWS, Row
from tests.faults.faults import ONE_PROCESS_SECONDS, Fault, Strike
from tests.faults.people import guest_cookie

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from nodes import cluster  # noqa: E402
from nodes.machine import podman_environment, prepare  # noqa: E402
from nodes.names import container_name  # noqa: E402

DEMO = "demo"
ENV = ROOT / "build" / "demo.env"
TARGET, SOCKET = "channelbox.target", "channelbox-web.socket"
BALANCER, DATA = "lb1", "data1"
WEB, WORKERS = ("web1", "web2"), ("worker1", "worker2")
INSTANCES = (1, 2)
HELD_SECONDS = 10.0
LONG_SECONDS = 30.0  # TCP alone retries 20 s later, longer than a client may lag behind
CUT = "nft 'add table inet faults; add chain inet faults {0} {{ type filter hook {0} priority -300; policy drop; }}; \
add rule inet faults {0} {1} lo accept'"
REDIS = r"""
    export REDISCLI_AUTH=$(grep -rhoP '^requirepass "?\K[^" ]+' /etc/redis | tail -1)
    redis-cli -h $(hostname -I | cut -d ' ' -f 1)"""

POSTGRESQL = "cd /; runuser -u postgres -- psql -d channelbox -Atq -v ON_ERROR_STOP=1 -F ' ' <<'SQL'\n{}\nSQL"
NO_CONNECTIONS = """ALTER ROLE channelbox CONNECTION LIMIT 0;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'channelbox'"""
ANY_CONNECTIONS = "ALTER ROLE channelbox CONNECTION LIMIT -1"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
OTHER_CLOCK = """set -e
test -e {library} || {{ apt-get update -qq; apt-get install -qq --no-install-recommends libfaketime > /dev/null; }}
mkdir -p {folder}
{{ echo [Service]; echo Environment=LD_PRELOAD={library} FAKETIME={offset} FAKETIME_DONT_FAKE_MONOTONIC=1
}} > {folder}/clock.conf
systemctl daemon-reload; systemctl restart {unit}
grep -q libfaketime /proc/$(systemctl show --property MainPID --value {unit})/maps"""
OWN_CLOCK = "rm {folder}/clock.conf; systemctl daemon-reload; systemctl restart {unit}"

REDIS_KILLED = "systemctl kill -s KILL redis-server; until systemctl is-active --quiet redis-server; do sleep 0.2; done"


class ClusterTarget:
    """The cluster that `make demo` has created. It is kept afterwards."""

    def __init__(self, folder: Path, database: str, broken: str = "") -> None:
        if broken:
            raise SystemExit("What is installed on nodes is not broken: BROKEN= is for TARGET=local.")
        if not ENV.exists():
            raise SystemExit("The cluster is the demo, which is not there: make demo")
        self._folder = folder
        words = dict(line.split("=", 1) for line in ENV.read_text().splitlines())
        context = ssl.create_default_context(cafile=words["CHANNELBOX_CA"])
        self.url = words["CHANNELBOX_URL"]
        self.options: dict[str, Any] = {"ssl": context}

    async def __aenter__(self) -> "ClusterTarget":
        prepare()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Save the journals of the processes beside the history."""
        with (self._folder / "processes.log").open("w") as log:
            for node in (*WEB, *WORKERS):
                log_text = await _on(node, "journalctl -u 'channelbox-*' -o short-iso --since -30min --no-pager")
                log.write(f"== {node}\n{log_text}\n")

    # --- Called by a run

    async def cookies(self, count: int) -> list[str]:
        """Return cookies of sessions of `count` guests."""
        return [await asyncio.to_thread(guest_cookie, self.url, self.options["ssl"]) for _ in range(count)]

    async def rows(self) -> list[Row]:
        """Return the stored events: room, number, and sender with id."""
        lines = await _on(DATA, POSTGRESQL.format(ROWS))
        return [(room, int(seq), id) for room, seq, id in map(str.split, lines.splitlines())]

    def missing(self) -> list[str]:
        """Return the faults that only the local target has."""
        return ["a full data directory, a worker killed between COMMIT and PUBLISH: see TARGET=local"]

    def faults(self) -> list[Fault]:
        """Return the faults of processes, servers and whole nodes."""
        return [
            Fault("a worker killed", _parts("worker"), self._killed("worker", WORKERS), ONE_PROCESS_SECONDS, 10),
            Fault("a web process killed", _parts("web"), self._killed("web", WEB), ONE_PROCESS_SECONDS, 10),
            Fault("a worker frozen for 10 s", _parts("worker"), self._frozen("worker", WORKERS), seconds=20),
            Fault("a web process frozen for 10 s", _parts("web"), self._frozen("web", WEB), seconds=20),
            Fault("every process restarted", _parts("worker", "web"), self._all_restarted, seconds=20),
            Fault("a web node's target restarted", _parts("web"), self._restarted(TARGET, WEB), seconds=15),
            Fault("a worker node's target restarted", _parts("worker"), self._restarted(TARGET, WORKERS), seconds=15),
            Fault("a web node's socket restarted", _parts("web"), self._restarted(SOCKET, WEB), seconds=15),
            Fault("a web node's nginx restarted", _parts("web"), self._restarted("nginx", WEB), seconds=12),
            Fault("a clock 5 minutes off", _parts("worker", "web"), self._clock, seconds=30),
            Fault("Redis killed", _parts("redis"), _does(DATA, REDIS_KILLED), seconds=15),
            Fault("Redis restarted", _parts("redis"), _does(DATA, "systemctl restart redis-server"), seconds=15),
            Fault("Redis emptied", _parts("redis"), _does(DATA, f"{REDIS} flushall"), seconds=15),
            Fault("Redis frozen for 10 s", _parts("redis"), self._redis_frozen, seconds=24),
            Fault("Redis full", _parts("redis"), self._redis_full, seconds=20),
            Fault("PostgreSQL restarted", _parts("database"), _does(DATA, "systemctl restart postgresql"), seconds=15),
            Fault("PostgreSQL crashed", _parts("database"), self._postgresql_crashed, seconds=20),
            Fault("PostgreSQL out of connections", _parts("database"), self._no_connections, seconds=24),
            Fault("nginx reloaded", _parts("nginx"), _does(BALANCER, "systemctl reload nginx"), seconds=8),
            Fault("nginx restarted", _parts("nginx"), _does(BALANCER, "systemctl restart nginx"), seconds=12),
            Fault("the balancer rebooted", _parts("nginx"), self._rebooted((BALANCER,)), seconds=35),
            Fault("a web node cut off", _parts("web"), self._cut(WEB), seconds=30),
            Fault("a worker node cut off", _parts("worker"), self._cut(WORKERS), seconds=25),
            Fault("the data node cut off", _parts("redis", "database"), self._cut((DATA,), LONG_SECONDS), seconds=50),
            Fault("a web node rebooted", _parts("web"), self._rebooted(WEB), seconds=35),
            Fault("a worker node without power", _parts("worker"), self._rebooted(WORKERS, power_cut=True), seconds=35),
            Fault("the data node rebooted", _parts("redis", "database"), self._rebooted((DATA,)), seconds=40),
            Fault(
                "the data node without power",
                _parts("redis", "database"),
                self._rebooted((DATA,), power_cut=True),
                seconds=40,
            ),
        ]

    # --- Processes and servers

    def _killed(self, kind: str, nodes: tuple[str, ...]) -> Strike:
        async def strike(rng: random.Random) -> None:
            unit = f"channelbox-{kind}@{rng.choice(INSTANCES)}"
            await _on(rng.choice(nodes), f"systemctl kill -s KILL {unit}")

        return strike

    def _frozen(self, kind: str, nodes: tuple[str, ...]) -> Strike:
        async def strike(rng: random.Random) -> None:
            unit = f"channelbox-{kind}@{rng.choice(INSTANCES)}"
            stop, go_on = (f"systemctl kill -s {signal} {unit}" for signal in ("STOP", "CONT"))
            async with _undone(rng.choice(nodes), stop, go_on):
                await asyncio.sleep(HELD_SECONDS)

        return strike

    def _restarted(self, unit: str, nodes: tuple[str, ...]) -> Strike:
        async def strike(rng: random.Random) -> None:
            await _on(rng.choice(nodes), f"systemctl restart {unit}")

        return strike

    async def _clock(self, rng: random.Random) -> None:
        kind, nodes = rng.choice((("web", WEB), ("worker", WORKERS)))
        unit = f"channelbox-{kind}@{rng.choice(INSTANCES)}.service"
        fields = {"unit": unit, "folder": f"/run/systemd/system/{unit}.d", "library": FAKETIME}
        offset = rng.choice(("+300s", "-300s"))
        async with _undone(rng.choice(nodes), OTHER_CLOCK.format(**fields, offset=offset), OWN_CLOCK.format(**fields)):
            await asyncio.sleep(HELD_SECONDS)

    async def _all_restarted(self, _: random.Random) -> None:
        await asyncio.gather(
            *(_on(node, "systemctl restart 'channelbox-web@*'") for node in WEB),
            *(_on(node, "systemctl restart 'channelbox-worker@*'") for node in WORKERS),
        )

    async def _redis_frozen(self, _: random.Random) -> None:
        async with _undone(DATA, "systemctl kill -s STOP redis-server", "systemctl kill -s CONT redis-server"):
            await asyncio.sleep(HELD_SECONDS)

    async def _redis_full(self, _: random.Random) -> None:
        command = (
            "p=$(grep -rhoP '^requirepass \"?\\K[^\" ]+' /etc/redis | tail -1); REDISCLI_AUTH=$p redis-cli -h {} config"
        )
        address = (await _on(DATA, "hostname -I")).split()[0]
        ask = command.format(address)
        most = (await _on(DATA, f"{ask} get maxmemory")).split()[-1]
        async with _undone(DATA, f"{ask} set maxmemory 1mb", f"{ask} set maxmemory {most}"):
            await asyncio.sleep(HELD_SECONDS)

    async def _no_connections(self, _: random.Random) -> None:
        async with _undone(DATA, POSTGRESQL.format(NO_CONNECTIONS), POSTGRESQL.format(ANY_CONNECTIONS)):
            await asyncio.sleep(HELD_SECONDS)

    async def _postgresql_crashed(self, _: random.Random) -> None:
        unit = (await _on(DATA, "systemctl list-units --plain --no-legend 'postgresql@*'")).split()[0]
        await _on(
            DATA, f"systemctl kill -s QUIT --kill-whom=main {unit} || systemctl kill -s QUIT --kill-who=main {unit}"
        )
        await asyncio.sleep(1)
        await _on(DATA, f"systemctl restart {unit}")

    # --- Nodes

    def _cut(self, nodes: tuple[str, ...], seconds: float = HELD_SECONDS) -> Strike:
        async def strike(rng: random.Random) -> None:
            cut = " && ".join((CUT.format("input", "iif"), CUT.format("output", "oif")))
            async with _undone(rng.choice(nodes), cut, "nft delete table inet faults"):
                await asyncio.sleep(seconds)

        return strike

    def _rebooted(self, nodes: tuple[str, ...], *, power_cut: bool = False) -> Strike:
        async def strike(rng: random.Random) -> None:
            node = rng.choice(nodes)
            await asyncio.to_thread(lambda: cluster.restart(DEMO, node, power_cut=power_cut))

        return strike


def _parts(*parts: str) -> frozenset[str]:
    return frozenset(parts)


def _does(node: str, command: str) -> Strike:
    async def strike(_: random.Random) -> None:
        await _on(node, command)

    return strike


@asynccontextmanager
async def _undone(node: str, command: str, undo: str) -> AsyncIterator[None]:
    """Run a command on a node, and undo it at the end of the context."""
    try:
        await _on(node, command)
        yield
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(_on(node, undo))


async def _on(node: str, command: str) -> str:
    """Run shell code on a node as root, and return its output. Raises RuntimeError with the output if it fails."""

    def run() -> str:
        whole = ["podman", "exec", container_name(DEMO, node), "sh", "-c", command]
        done = subprocess.run(whole, check=False, capture_output=True, text=True, env=podman_environment(), timeout=90)
        if done.returncode:
            raise RuntimeError(f"on {node}: {command}\n{done.stdout}{done.stderr}")
        return done.stdout

    return await asyncio.to_thread(run)
