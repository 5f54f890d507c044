"""Renders build/growth.html, which shows the sweeps as curves."""

import math
from collections.abc import Sequence
from dataclasses import fields
from html import escape
from typing import Any

from bench.growth.sweeps import IN_FLIGHT, SWEEPS, Point
from bench.plots import number
from bench.report import STYLE, table

WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT, TOP = 760, 260, 70, 34, 20, 12
CURVES = {
    "delivery_us": "CPU microseconds of the server for a delivery to one member",
    "message_ms": "CPU milliseconds of the server for a message to all",
    "p99_ms": "Milliseconds from send to the last member, 99 % of the messages",
    "connects_per_s": "Connects a second",
    "balance": "Connections of the fullest web process, in means",
}


def page(machine: dict[str, Any], points: Sequence[Point]) -> str:
    """Return the page as self-contained HTML."""
    parts = [
        "<h1>What channelbox costs as it grows</h1>",
        "<p>Both axes are logarithmic: a flat curve is a cost that does not grow.</p>",
    ]
    for name, sweep in SWEEPS.items():
        own = [point for point in points if point.sweep == name]
        drawn = [point for point in own if point.in_flight in (0, IN_FLIGHT)]
        if not own:
            continue
        parts.append(f"<h2>{escape(sweep.title)}</h2>")
        columns = [field.name for field in fields(Point) if field.name != "sweep"]
        parts.append(table(columns, ([_cell(getattr(point, c)) for c in columns] for point in own)))
        parts += [f"<h3>{escape(title)}</h3>{curve(drawn, field)}" for field, title in CURVES.items()]
    parts.append("<h2>Machine</h2><dl>")
    parts += [f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in machine.items()]
    body = "\n".join([*parts, "</dl>"])
    style = STYLE + "polyline { fill: none; stroke: #1f6f54; stroke-width: 2; } circle { fill: #1f6f54; }\n"
    head = f'<meta charset="utf-8"><title>channelbox as it grows</title><style>{style}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def curve(points: Sequence[Point], field: str) -> str:
    """Plot one figure against the quantity that grows, as SVG."""
    values = [(point.at, max(float(getattr(point, field)), 1e-6)) for point in points]
    left, right = _decades([at for at, _ in values])
    low, high = _decades([value for _, value in values])

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(at / left) / math.log10(right / left)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * math.log10(value / low) / math.log10(high / low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(CURVES[field])}">']
    for decade in _between(left, right):
        parts.append(
            f'<line class="grid" x1="{x(decade):.1f}" x2="{x(decade):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        )
        parts.append(f'<text class="tick" x="{x(decade):.1f}" y="{HEIGHT - BOTTOM + 16}">{decade:g}</text>')
    for decade in _between(low, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(decade):.1f}" y2="{y(decade):.1f}"/>')
        parts.append(f'<text class="name" x="{LEFT - 8}" y="{y(decade) + 4:.1f}">{decade:g}</text>')
    parts.append('<polyline points="' + " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in values) + '"/>')
    for at, value in values:
        parts.append(f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="3.5"/>')
        parts.append(f'<text class="tick" x="{x(at):.1f}" y="{y(value) - 8:.1f}">{number(value)}</text>')
    return "\n".join([*parts, "</svg>"])


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Return the powers of ten that enclose the values, always two different ones."""
    low = 10.0 ** math.floor(math.log10(min(values)))
    high = 10.0 ** math.ceil(math.log10(max(values) * 1.0001))
    return low, max(high, low * 10)


def _between(low: float, high: float) -> list[float]:
    return [low * 10**step for step in range(round(math.log10(high / low)) + 1)]


def _cell(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else number(value)
