"""On a very slow machine, no unit is started twice from the installation to the first messages."""

from collections.abc import Iterator

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Member
from testinfra.host import Host

CORE_SHARE = 0.2  # of one core, for all processes of channelbox together
FIRST_STOP_SECONDS = 12
"""How long the first process is held, which is longer than the package stays silent."""

MESSAGE_TIMEOUT = 60
LIMIT = "20m"
"""For the installation, which takes two minutes. If it hangs, the output shows how far it came."""

UNITS = ["channelbox-migrate", "channelbox-redis", "channelbox-web@1", "channelbox-worker@1"]

# A quota of the CPU controller has no effect if the machine does not delegate the controller to the node.
THROTTLE = """
import os, pathlib, signal, time

RUN_SECONDS = 0.01
PAUSE_SECONDS = RUN_SECONDS * (os.cpu_count() / SHARE - 1)
LOOK_SECONDS = 0.005
ended = False

def end(*_):
    global ended
    ended = True

def processes():
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            yield int(process.name), (process / "cgroup").read_text(), (process / "cmdline").read_bytes()
        except OSError:
            pass

def ours():
    # Processes of channelbox's units, and those of channelbox that an administrator or the package runs.
    return [pid for pid, group, words in processes() if "/channelbox-" in group or b"/opt/venvs/channelbox/" in words]

def a_unit_began():
    return any("/channelbox-" in group for _, group, _ in processes())

def send(number, pids):
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass

held = set()

def hold(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until and not ended:
        pids = ours()
        held.update(pids)
        send(signal.SIGSTOP, pids)  # repeated, so that a process is held from its start
        time.sleep(LOOK_SECONDS)  # polled: nothing notifies of new processes

def release():
    # All that were held: since it was found, a process may have become another program that does not match.
    send(signal.SIGCONT, held)
    held.clear()

signal.signal(signal.SIGTERM, end)
while not ended and not a_unit_began():
    time.sleep(LOOK_SECONDS)  # polled: nothing notifies of a unit that starts
try:
    hold(FIRST)
    while not ended:
        release()
        time.sleep(RUN_SECONDS)  # their share of the core: this sleep is the throttle, not a wait
        hold(PAUSE_SECONDS)
finally:
    release()
"""


@pytest.fixture
def slow(nodes: Nodes) -> Iterator[None]:
    """Limit all processes of channelbox together to a fifth of a core."""
    text = THROTTLE.replace("SHARE", str(CORE_SHARE), 1).replace("FIRST", str(FIRST_STOP_SECONDS))
    nodes.root(
        "box",
        f"cat > /root/throttle.py <<'END'\n{text}\nEND\nsystemd-run --quiet --unit=throttle python3 /root/throttle.py",
    )
    yield
    nodes.root("box", "systemctl stop throttle")


APT = "DEBIAN_FRONTEND=noninteractive apt-get -q --yes"


@pytest.mark.usefixtures("slow")
async def test_a_node_with_a_fifth_of_a_core_starts_at_the_first_attempt(nodes: Nodes, box: Host, room: str) -> None:
    nodes.root("box", "apt-get -q update")
    output = nodes.root("box", f"timeout {LIMIT} env {APT} install /root/channelbox.deb < /dev/null 2>&1")
    assert "waiting for its processes to start" in output
    assert "journalctl" in output
    answer = nodes.root("box", "channelbox first-password")
    password = next(line.split(":", 1)[1].strip() for line in answer.splitlines() if line.startswith("Password:"))
    endpoint = nodes.https("box", client="desk")
    admin = Browser(endpoint)
    admin.sign_in("admin", password)
    async with Member(admin, room, endpoint) as first, Member(admin, room, endpoint) as second:
        await first.send("slowly", within=MESSAGE_TIMEOUT)
        await second.wait_for("slowly", within=MESSAGE_TIMEOUT)
    for unit in UNITS:
        assert box.service(unit).is_running
        assert nodes.root("box", f"systemctl show --property=NRestarts --value {unit}").strip() == "0", unit
