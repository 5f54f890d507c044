"""The page of what grows, and the count of connections."""

import os
import re
import socket

from bench.growth.balance import balance, sockets
from bench.growth.page import curve, page
from bench.growth.sweeps import Point


def point(at: int, delivery_us: float) -> Point:
    return Point("members", at, 4, at, delivery_us, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 500.0, 0.5, 1.0)


def heights(svg: str) -> list[float]:
    return [float(y) for y in re.findall(r'cy="([\d.]+)"', svg)]


def test_a_cost_that_does_not_grow_is_a_flat_curve() -> None:
    flat = heights(curve([point(at, 5.0) for at in (10, 100, 1000)], "delivery_us"))
    assert len(set(flat)) == 1
    first, second, third = heights(curve([point(10, 1.0), point(100, 10.0), point(1000, 100.0)], "delivery_us"))
    assert first > second > third  # SVG counts downwards
    assert abs((first - second) - (second - third)) < 0.2


def test_every_point_is_in_the_page_even_a_single_one_and_none() -> None:
    told = page({"cores": 2}, [point(10, 7.25)])
    assert "7.25" in told
    assert "Members of one room" in told
    assert "Web processes" not in told
    assert "0.00" in curve([point(10, 0.0)], "delivery_us")


def test_sockets_of_a_process_are_counted() -> None:
    before = sockets(os.getpid())
    with socket.socket(), socket.socket():
        assert sockets(os.getpid()) == before + 2
        assert balance([os.getpid(), os.getpid()]) == 1
