"""The default limits suffice for ten thousand people behind one address. Reasons: docs/decisions/rates.md.

nginx and the application each have limits for an address; requests that one admits must be admitted by the other.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from channelbox.realtime.admission import TABLE, Kind, Limit

ROOT = Path(__file__).parents[1]
ROLE = ROOT / "ansible/roles/nginx"
PACKAGE = ROOT / "packaging/debian"
PEOPLE = 10_000
OLD_AND_NEW = 2  # sockets of each client while those from before an outage have not been detected as dead
CONNECTIONS_EACH = 2  # connections of nginx for each WebSocket or page
LIST_SECONDS = 30  # between two requests of an open page for the list of rooms
USERS_AT_WORK = 1_000  # users who all sign in when work begins
MINUTE = 60
MISTYPED = 0.2  # maximum share of the sign-ins within one minute
MISTYPED_FOR_LONG = 0.05  # maximum share of the sign-ins that nginx admits in a whole window
PASSWORD_SECONDS = 0.05  # of a core: docs/decisions/sign-in.md

Numbers = dict[str, int]


def of_the_role() -> Numbers:
    defaults: dict[str, Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    prefix = "channelbox_nginx_"
    return {name.removeprefix(prefix): value for name, value in defaults.items() if name.startswith(prefix)}


def of_the_package() -> Numbers:
    site, unit = (
        (PACKAGE / path).read_text() for path in ("nginx/site.conf", "units/nginx.service.d/00-channelbox.conf")
    )
    patterns = {
        "page_rate": r"zone=channelbox_pages:\S+ rate=(\d+)r/s",
        "page_burst": r"zone=channelbox_pages burst=(\d+) nodelay;",
        "page_connections": r"limit_conn channelbox_open_pages (\d+);",
        "socket_rate": r"zone=channelbox_sockets:\S+ rate=(\d+)r/s",
        "socket_burst": r"zone=channelbox_sockets burst=(\d+) nodelay;",
        "socket_connections": r"limit_conn channelbox_open_sockets (\d+);",
        "sign_in_rate": r"zone=channelbox_sign_ins:\S+ rate=(\d+)r/s",
        "sign_in_burst": r"zone=channelbox_sign_ins burst=(\d+);",
    }
    numbers = {name: int(re.findall(pattern, site)[0]) for name, pattern in patterns.items()}
    numbers["connections"] = int(re.findall(r"^CONNECTIONS=(\d+)$", (PACKAGE / "nginx-conf").read_text(), re.M)[0])
    assert f"LimitNOFILE={2 * numbers['connections']}\n" in unit
    return numbers


@pytest.fixture(params=[of_the_role, of_the_package], ids=["role", "package"])
def nginx(request: pytest.FixtureRequest) -> Numbers:
    numbers: Numbers = request.param()
    return numbers


def of_address(kind: Kind) -> Limit:
    limit = TABLE[kind].address
    assert limit is not None
    return limit()


def test_limits_of_the_package_and_the_roles_are_equal() -> None:
    role = of_the_role()
    assert of_the_package() == {name: number for name, number in role.items() if name != "backlog"}


def test_all_clients_can_reconnect_before_dead_sockets_are_detected(nginx: Numbers) -> None:
    sockets = OLD_AND_NEW * PEOPLE
    some_with_two_tabs = PEOPLE // 10
    assert nginx["socket_connections"] >= sockets + some_with_two_tabs
    # All of them may be in one process: the kernel distributes connections arbitrarily.
    assert sockets + some_with_two_tabs <= settings.CHANNELBOX_SOCKETS_ADDRESS
    assert nginx["socket_burst"] >= sockets
    assert of_address(Kind.JOINS).burst >= sockets


def test_one_nginx_process_holds_all_websockets_and_a_page_each(nginx: Numbers) -> None:
    assert nginx["connections"] >= CONNECTIONS_EACH * (OLD_AND_NEW * PEOPLE + PEOPLE)


def test_every_client_can_load_a_page_and_refresh_its_list(nginx: Numbers) -> None:
    assert nginx["page_burst"] >= PEOPLE
    assert nginx["page_connections"] >= PEOPLE
    assert nginx["page_rate"] >= PEOPLE / LIST_SECONDS
    requests = of_address(Kind.REQUESTS)
    assert requests.burst >= PEOPLE
    assert requests.rate >= PEOPLE / LIST_SECONDS


def test_a_thousand_users_can_sign_in_within_a_minute(nginx: Numbers) -> None:
    assert nginx["sign_in_rate"] * MINUTE >= USERS_AT_WORK
    assert nginx["sign_in_burst"] >= USERS_AT_WORK
    assert settings.CHANNELBOX_SIGN_IN_ADDRESS >= MISTYPED * USERS_AT_WORK
    mistyped = MISTYPED_FOR_LONG * nginx["sign_in_rate"] * settings.CHANNELBOX_SIGN_IN_WINDOW
    assert mistyped <= settings.CHANNELBOX_SIGN_IN_ADDRESS


def test_the_cost_of_one_address_is_bounded(nginx: Numbers) -> None:
    # Passwords: at most one core, and no user waits for longer than a minute.
    assert nginx["sign_in_rate"] * PASSWORD_SECONDS <= 1
    assert nginx["sign_in_burst"] / nginx["sign_in_rate"] <= MINUTE
    # Wrong passwords with any names: thirty times those with one name.
    assert settings.CHANNELBOX_SIGN_IN_ADDRESS <= 30 * settings.CHANNELBOX_SIGN_IN_NAME
    # Sockets: a process may use 2 GiB, and 60,000 take less than half of that.
    assert settings.CHANNELBOX_SOCKETS_ADDRESS <= 30_000


def test_documented_tables_match_the_limits() -> None:
    """The tables are in docs/install.md and docs/settings.md."""
    install, at_a_glance = ((ROOT / "docs" / page).read_text() for page in ("install.md", "settings.md"))
    role = of_the_role()
    for names, numbers in re.findall(
        r"^\| (`channelbox_nginx_\w+`(?:, `channelbox_nginx_\w+`)*) \| ([\d, ]+) \|", install, re.M
    ):
        for name, number in zip(re.findall(r"`channelbox_nginx_(\w+)`", names), numbers.split(", "), strict=True):
            assert role.pop(name) == int(number), name
    assert role == {}
    documented = {
        int(number.replace(",", ""))
        for row in re.findall(r"^\| .*nginx.*$", at_a_glance, re.M)
        for number in re.findall(r"\b\d[\d,]*\b", row)
    }
    assert {number for name, number in of_the_role().items() if name not in ("backlog", "connections")} <= documented
