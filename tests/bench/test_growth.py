"""The page of the growth benchmark, and the count of connections."""

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


def test_constant_costs_are_drawn_as_a_flat_curve() -> None:
    flat = heights(curve([point(at, 5.0) for at in (10, 100, 1000)], "delivery_us"))
    assert len(set(flat)) == 1
    first, second, third = heights(curve([point(10, 1.0), point(100, 10.0), point(1000, 100.0)], "delivery_us"))
    assert first > second > third  # SVG counts downwards
    assert abs((first - second) - (second - third)) < 0.2


def test_page_shows_a_single_point_and_omits_empty_sweeps() -> None:
    html = page({"cores": 2}, [point(10, 7.25)])
    assert "7.25" in html
    assert "Members of one room" in html
    assert "Web processes" not in html
    assert "0.00" in curve([point(10, 0.0)], "delivery_us")


def test_sockets_of_a_process_are_counted() -> None:
    before = sockets(os.getpid())
    with socket.socket(), socket.socket():
        assert sockets(os.getpid()) == before + 2
        assert balance([os.getpid(), os.getpid()]) == 1
