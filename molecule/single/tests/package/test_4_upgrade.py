"""Installing again and upgrading keep settings and messages, and need no manual steps."""

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Member

NEWER = "channelbox-newer.deb"


async def test_reinstalling_changes_nothing(nodes: Nodes) -> None:
    before = nodes.root("box", "cat /etc/channelbox/channelbox.env /etc/channelbox/tls/cert.pem")
    nodes.root("box", "apt-get -q install --yes --reinstall /root/channelbox.deb < /dev/null")
    assert nodes.root("box", "cat /etc/channelbox/channelbox.env /etc/channelbox/tls/cert.pem") == before
    assert nodes.active("box", "channelbox-web@1")


def test_maintainer_scripts_are_silent_on_success(nodes: Nodes) -> None:
    output = nodes.root("box", "DEBIAN_FRONTEND=noninteractive dpkg-reconfigure channelbox 2>&1").splitlines()
    # dpkg itself prints a line about triggers.
    assert [line for line in output if not line.startswith("Processing triggers for channelbox ")] == []


def test_the_certificate_authority_of_version_0_1_0_is_replaced(nodes: Nodes) -> None:
    former = (
        "cd /etc/channelbox/tls && mkdir /root/tls && cp -p * /root/tls && rm * && openssl req -x509 -newkey ec "
        "-pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=box -addext subjectAltName=DNS:box -addext "
        "keyUsage=critical,digitalSignature,keyCertSign -addext extendedKeyUsage=serverAuth -keyout key.pem "
        "-out cert.pem 2> /dev/null"
    )
    nodes.root("box", former)
    output = nodes.root("box", "DEBIAN_FRONTEND=noninteractive dpkg-reconfigure channelbox 2>&1")
    assert "was a certificate authority for ten years" in output
    shown = "openssl s_client -connect localhost:443 < /dev/null 2> /dev/null | openssl x509 -noout -text"
    assert "CA:FALSE" in nodes.root("box", shown)
    again = nodes.root("box", "DEBIAN_FRONTEND=noninteractive dpkg-reconfigure channelbox 2>&1")
    assert "certificate" not in again
    back = "cd /etc/channelbox/tls && rm * && cp -p /root/tls/* . && rm -r /root/tls && systemctl reload nginx"
    nodes.root("box", back)


@pytest.fixture
def newer(nodes: Nodes) -> str:
    """The same package with a higher version."""
    repack = (
        "cd /root && rm -rf newer && dpkg-deb --raw-extract channelbox.deb newer && "
        "sed -i '/^Version:/s/~/+newer~/' newer/DEBIAN/control && "
        f"dpkg-deb --root-owner-group -Znone --build newer {NEWER} && rm -rf newer"
    )
    nodes.root("box", repack)
    return f"/root/{NEWER}"


async def test_an_upgrade_keeps_settings_instances_and_messages(
    nodes: Nodes, newer: str, room: str, admin: Browser, endpoint: Endpoint
) -> None:
    nodes.root("box", "echo CHANNELBOX_OPERATOR=Harbour office >> /etc/channelbox/channelbox.env")
    nodes.root("box", "systemctl enable --now channelbox-worker@2")
    before = nodes.main_pid("box", "channelbox-web@1")
    member = Member(admin, room, endpoint)
    async with member:
        await member.send("before the upgrade")
        nodes.root("box", f"apt-get -q install --yes {newer} < /dev/null")
    assert "+newer" in nodes.root("box", "dpkg-query --show channelbox")
    assert nodes.main_pid("box", "channelbox-web@1") not in (0, before)
    assert "Harbour office" in nodes.root("box", "cat /etc/channelbox/channelbox.env")
    assert nodes.active("box", "channelbox-worker@2")
    async with member:
        await member.send("after it")
    assert list(member.messages.values()) == ["before the upgrade", "after it"]


@pytest.fixture
def visitors(endpoint: Endpoint) -> Iterator[Counter[object]]:
    """Count the responses to requests for a page that are sent all the time, each over a new connection."""
    answers: Counter[object] = Counter()
    enough = threading.Event()

    def visit() -> None:
        while not enough.wait(0.02):
            try:
                answers[Browser(endpoint).request("GET", "/accounts/login/")[0]] += 1
            except OSError as error:
                answers[repr(error)] += 1

    thread = threading.Thread(target=visit)
    thread.start()
    yield answers
    enough.set()
    thread.join()


def test_an_upgrade_fails_no_request(nodes: Nodes, visitors: Counter[object]) -> None:
    nodes.root("box", "systemctl enable --now channelbox-web@2")
    before = nodes.main_pid("box", "channelbox-web@1")
    nodes.root("box", f"apt-get -q install --yes --reinstall /root/{NEWER} < /dev/null")
    assert nodes.main_pid("box", "channelbox-web@1") not in (0, before)
    assert visitors[200] > 50
    assert list(visitors) == [200], visitors
    nodes.root("box", "systemctl disable --now channelbox-web@2")


def test_a_rolling_restart_fails_no_request(nodes: Nodes, visitors: Counter[object]) -> None:
    nodes.root("box", "systemctl enable --now channelbox-web@2")
    units = ("channelbox-web@1", "channelbox-web@2", "channelbox-worker@1", "channelbox-worker@2")
    before = [nodes.main_pid("box", unit) for unit in units]
    output = nodes.root("box", "channelbox restart")
    assert [line.split()[0].removesuffix(".service") for line in output.splitlines()] == list(units)
    assert all(nodes.main_pid("box", unit) not in (0, *before) for unit in units)
    # The first was ready before the second was stopped.
    first_ready, second_stopped = (
        int(nodes.root("box", f"systemctl show --property={name} --value {unit}"))
        for unit, name in zip(units, ("ActiveEnterTimestampMonotonic", "InactiveEnterTimestampMonotonic"), strict=False)
    )
    assert 0 < first_ready < second_stopped
    assert list(visitors) == [200], visitors


def test_a_rolling_restart_stops_at_the_first_failed_unit(nodes: Nodes) -> None:
    nodes.root("box", "echo CHANNELBOX_LAYER=nonsense > /etc/channelbox/web@1.env")
    before = nodes.main_pid("box", "channelbox-web@2")
    stopped = nodes["box"].run("channelbox restart web")
    assert stopped.rc == 1
    assert "channelbox-web@1.service did not come back" in stopped.stderr
    assert "Not restarted: channelbox-web@2.service" in stopped.stderr
    assert nodes.main_pid("box", "channelbox-web@2") == before
    nodes.root(
        "box", "rm /etc/channelbox/web@1.env && channelbox restart web && systemctl disable --now channelbox-web@2"
    )
    assert nodes.active("box", "channelbox-web@1")


@pytest.fixture
def from_0_1_0(nodes: Nodes) -> Iterator[list[str]]:
    """Processes as version 0.1.0 started them, without a record of their wire format; one is not enabled."""
    units = ["channelbox-web@1", "channelbox-web@2", "channelbox-worker@1", "channelbox-worker@2"]
    nodes.root("box", f"systemctl start {' '.join(units)} && rm {WIRE_FORMAT_FILE}")
    yield units
    nodes.root("box", "systemctl stop channelbox-web@2")


WIRE_FORMAT_FILE = "/etc/channelbox/.wire-format"


def test_changing_wire_format_stops_all_processes_before_starting_any(nodes: Nodes, from_0_1_0: list[str]) -> None:
    before = [nodes.main_pid("box", unit) for unit in from_0_1_0]
    output = nodes.root("box", f"apt-get -q install --yes --reinstall /root/{NEWER} < /dev/null 2>&1")
    assert "all processes were stopped" in output

    def times(name: str) -> list[int]:
        shown = nodes.root("box", f"systemctl show --property={name} --value {' '.join(from_0_1_0)}")
        return [int(value) for value in shown.split()]

    assert all(nodes.main_pid("box", unit) not in (0, *before) for unit in from_0_1_0)
    assert max(times("InactiveEnterTimestampMonotonic")) < min(times("ExecMainStartTimestampMonotonic"))
    assert nodes.active("box", "channelbox-web.socket")
    own = nodes.root("box", "dpkg-query --show --showformat='${Wire-Format}' channelbox")
    assert nodes.root("box", f"cat {WIRE_FORMAT_FILE}").strip() == own


def test_a_failed_start_does_not_affect_the_other_instance(nodes: Nodes, admin: Browser) -> None:
    nodes.root("box", "systemctl start channelbox-web@2 && echo CHANNELBOX_LAYER=nonsense > /etc/channelbox/web@1.env")
    before = nodes.main_pid("box", "channelbox-web@2")
    assert nodes["box"].run("dpkg-reconfigure channelbox").rc != 0
    assert nodes.main_pid("box", "channelbox-web@2") == before
    assert admin.request("GET", "/chat/")[0] == 200
    nodes.root("box", "rm /etc/channelbox/web@1.env && dpkg-reconfigure channelbox && systemctl stop channelbox-web@2")
    assert nodes.active("box", "channelbox-web@1")


def test_everything_runs_after_a_reboot(nodes: Nodes, admin: Browser) -> None:
    nodes.restart("box")
    for unit in ("channelbox-web@1", "channelbox-worker@1", "channelbox-worker@2", "nginx"):
        assert nodes.active("box", unit), unit
    assert admin.request("GET", "/chat/")[0] == 200
