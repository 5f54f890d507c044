"""The node starts and stays up by itself, whatever fails and whenever it is corrected."""

import asyncio
import re
from collections.abc import Iterator

import pytest
from nodes.names import container_name
from nodes.podman import podman
from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Member
from probe.waiting import until

UNITS = "channelbox-migrate channelbox-redis channelbox-web@1 channelbox-worker@1"
START_SECONDS = 10
"""TimeoutStartSec= in these tests; a throttled start takes longer."""

STOP = "systemctl stop 'channelbox-*' channelbox.target"
"""Names each unit, because stopping only the target does not wait for its units."""

THROTTLE = """
systemctl start --no-block {unit}
until pid=$(systemctl show --property=MainPID --value {unit}) && [ "$pid" != 0 ]; do :; done
began=$(date +%s)
# Once it has asked for more time, it gets almost no processor time.
until [ "$(systemctl show --property=StatusText --value {unit})" = Starting ]; do
    [ "$(systemctl show --property=ActiveState --value {unit})" = activating ] || exit 1
done
while [ -e /proc/$pid ] && [ $(($(date +%s) - began)) -le {seconds} ]; do
    kill -STOP $pid; sleep 4; kill -CONT $pid; sleep 0.005
done
until systemctl show --property=ActiveState --value {unit} | grep -qx 'active\\|failed'; do sleep 0.2; done
"""


def state(nodes: Nodes, unit: str, name: str) -> str:
    return nodes.root("box", f"systemctl show --property={name} --value {unit}").strip()


async def all_up(nodes: Nodes, seconds: float = 180) -> None:
    """Wait until every unit runs and no start is pending."""

    def up() -> bool:
        active = nodes["box"].run(f"systemctl is-active {UNITS}").stdout.split()
        return set(active) == {"active"} and nodes.root("box", "systemctl is-system-running").strip() == "running"

    await until(up, seconds, "everything runs")


@pytest.fixture
def no_database(nodes: Nodes) -> Iterator[None]:
    """Make the database impossible to open until RESTORE_DATABASE is run."""
    nodes.root("box", STOP)
    nodes.root("box", "cd /var/lib/channelbox && mv db.sqlite3 db.away && mkdir db.sqlite3 && sync")
    yield
    nodes.root("box", RESTORE_DATABASE)


RESTORE_DATABASE = "cd /var/lib/channelbox && if [ -d db.sqlite3 ]; then rmdir db.sqlite3 && mv db.away db.sqlite3; fi"


@pytest.mark.usefixtures("no_database")
async def test_node_recovers_from_a_power_cut_once_the_database_is_back(
    nodes: Nodes, room: str, admin: Browser, endpoint: Endpoint
) -> None:
    podman("restart", "--time", "0", container_name(nodes.cluster, "box"))

    def refused() -> bool:
        return "unable to open database file" in nodes.root("box", "journalctl -b -u channelbox-migrate -o cat")

    await until(refused, 180, "the migrations have failed")
    # Migrations that are killed while they run must recover in the same way.
    nodes["box"].run("systemctl kill --signal=KILL channelbox-migrate")
    assert not nodes.active("box", "channelbox-worker@1")
    nodes.root("box", RESTORE_DATABASE)
    await all_up(nodes)
    async with Member(admin, room, endpoint) as member:
        await member.send("here again")


@pytest.fixture
def wrong_setting(nodes: Nodes) -> Iterator[str]:
    """Write a setting with which nothing starts, and return the command that removes it."""
    settings = "/etc/channelbox/channelbox.env"
    correction = f"sed -i /^CHANNELBOX_LAYER=/d {settings}"
    nodes.root("box", f"{STOP} && echo CHANNELBOX_LAYER=nonsense >> {settings}")
    yield correction
    nodes.root("box", correction)


async def test_units_start_by_themselves_once_the_setting_is_corrected(nodes: Nodes, wrong_setting: str) -> None:
    # The folder as the socket unit creates it if tmpfiles.d was not applied: Redis may not write there.
    nodes.root("box", "rm -rf /run/channelbox && install -d -m 0755 /run/channelbox")
    nodes.root("box", "systemctl start --no-block channelbox.target")

    def failed() -> bool:
        return all(int(state(nodes, f"channelbox-{unit}", "NRestarts")) for unit in ("migrate", "web@1", "worker@1"))

    await until(failed, 180, "each has failed and was tried again")
    assert nodes.active("box", "channelbox-redis")
    nodes.root("box", wrong_setting)
    await all_up(nodes)


async def test_a_failed_socket_unit_is_started_with_the_next_instance(nodes: Nodes) -> None:
    nodes.root("box", "systemctl stop channelbox-web.socket")
    # A folder in place of the socket, which systemd does not replace.
    nodes.root("box", "rm -f /run/channelbox/web.sock && mkdir -p /run/channelbox/web.sock/in-the-way")
    nodes.root("box", "systemctl start --no-block channelbox-web@1")
    await until(lambda: state(nodes, "channelbox-web@1", "NRestarts") not in ("", "0"), 180, "it has failed")
    nodes.root("box", "rm -rf /run/channelbox/web.sock")
    await all_up(nodes)


async def test_killed_nginx_and_redis_are_restarted(nodes: Nodes, admin: Browser) -> None:
    for unit in ("nginx", "channelbox-redis"):
        before = nodes.main_pid("box", unit)
        nodes.root("box", f"systemctl kill --signal=KILL --kill-who=main {unit}")
        await until(lambda: nodes.has_new_process("box", unit, before), 180, f"{unit} runs again")  # noqa: B023
        await until(lambda: nodes.active("box", unit), 60, f"{unit} is ready again")  # noqa: B023
    assert admin.request("GET", "/chat/")[0] == 200


@pytest.fixture
def short_start_timeout(nodes: Nodes) -> Iterator[None]:
    """Give instances 7 and 8 little time to start."""
    for unit in ("channelbox-web@7", "channelbox-web@8"):
        folder = f"/run/systemd/system/{unit}.service.d"
        nodes.root(
            "box", f"mkdir -p {folder} && printf '[Service]\\nTimeoutStartSec={START_SECONDS}\\n' > {folder}/t.conf"
        )
    nodes.root("box", "systemctl daemon-reload")
    yield
    nodes.root(
        "box", "systemctl stop channelbox-web@7 channelbox-web@8; rm -r /run/systemd/system/channelbox-web@?.service.d"
    )
    nodes.root("box", "systemctl daemon-reload; systemctl reset-failed 'channelbox-web@*'")


@pytest.mark.usefixtures("short_start_timeout")
async def test_a_slow_start_gets_more_time_and_a_hung_one_is_ended(nodes: Nodes) -> None:
    slow, hanging = "channelbox-web@7", "channelbox-web@8"
    nodes.root("box", f"systemctl start --no-block {hanging}")
    pid = await until(lambda: nodes.main_pid("box", hanging), 60, "a process")
    nodes.root("box", f"kill -STOP {pid}")
    await asyncio.to_thread(nodes.root, "box", THROTTLE.format(unit=slow, seconds=START_SECONDS))
    assert state(nodes, slow, "ActiveState") == "active"
    assert state(nodes, slow, "NRestarts") == "0"
    began, ended = (
        int(state(nodes, slow, name)) for name in ("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    )
    assert ended - began > START_SECONDS * 1_000_000, "the start was not slow"
    await until(lambda: nodes.main_pid("box", hanging) != pid, 60, "the one that hangs is ended")
    log = nodes.root("box", f"journalctl -u {hanging} -o cat")
    assert "start operation timed out" in log


MEMORY_MAX = {
    "web@1": 2048,
    "worker@1": 2048,
    "migrate": 2048,
    "backup": 2048,
    "sessions": 2048,
    "redis": 1024,
    "certificate": 256,
}
"""Of each unit, in MiB."""

MEMORY_HIGH = dict.fromkeys(("web@1", "worker@1", "migrate", "backup", "sessions"), 1536)
"""Of the units that are throttled before they reach the limit, in MiB; the others set none."""


def test_memory_limits_are_set_and_can_be_overridden(nodes: Nodes) -> None:
    for unit, mebibytes in MEMORY_MAX.items():
        high = MEMORY_HIGH.get(unit)
        assert int(state(nodes, f"channelbox-{unit}", "MemoryMax")) == mebibytes * 1024**2, unit
        assert state(nodes, f"channelbox-{unit}", "MemoryHigh") == (str(high * 1024**2) if high else "infinity"), unit
    folder = "/etc/systemd/system/channelbox-web@.service.d"
    nodes.root("box", f"mkdir {folder} && printf '[Service]\\nMemoryMax=3G\\n' > {folder}/10-memory.conf")
    nodes.root("box", "systemctl daemon-reload")
    try:
        assert int(state(nodes, "channelbox-web@1", "MemoryMax")) == 3 * 1024**3
    finally:
        nodes.root("box", f"rm -r {folder}; systemctl daemon-reload")


def test_the_administrators_drop_in_for_nginx_wins(nodes: Nodes) -> None:
    folder = "/etc/systemd/system/nginx.service.d"
    nodes.root("box", f"mkdir {folder} && printf '[Service]\\nRestart=no\\n' > {folder}/10-mine.conf")
    nodes.root("box", "systemctl daemon-reload")
    try:
        assert state(nodes, "nginx", "Restart") == "no"
    finally:
        nodes.root("box", f"rm -r {folder}; systemctl daemon-reload")
    assert state(nodes, "nginx", "Restart") == "on-failure"


def test_the_certificate_is_no_ca_and_has_a_renewal_timer(nodes: Nodes) -> None:
    shown = nodes.root("box", "openssl x509 -in /etc/channelbox/tls/cert.pem -noout -text")
    assert "CA:FALSE" in shown
    assert "Certificate Sign" not in shown
    assert "channelbox-certificate.service" in nodes.root("box", "systemctl list-timers --no-legend 'channelbox-*'")
    before = nodes.root("box", "cat /etc/channelbox/tls/cert.pem /etc/channelbox/tls/key.pem")
    nodes.root("box", "systemctl start channelbox-certificate")
    assert nodes.root("box", "cat /etc/channelbox/tls/cert.pem /etc/channelbox/tls/key.pem") == before
    served = re.sub(r".*?(-----BEGIN.*?END CERTIFICATE-----).*", r"\1", nodes.root("box", SHOWN), flags=re.DOTALL)
    assert served in before


SHOWN = "openssl s_client -connect localhost:443 < /dev/null 2> /dev/null"
