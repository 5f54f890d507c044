"""Bar charts as SVG, on a logarithmic scale because the values differ by factors."""

import math
from html import escape

from bench.figures import OWN, Row

WIDTH, NAME, VALUE, LINE = 760, 170, 150, 26
COLOURS = {True: "#1f6f54", False: "#9aa5b1"}  # channelbox, the others


def bars(row: Row) -> str:
    """Draw one bar per server, as long as its median, with a line from the minimum to the maximum of its runs."""
    values = [value for figure in row.servers.values() for value in (figure.min, figure.max) if value > 0]
    if not values:
        return ""
    low = 10 ** math.floor(math.log10(min(values)))
    high = 10 ** math.ceil(math.log10(max(values) * 1.0001))
    room = WIDTH - NAME - VALUE

    def x(value: float) -> float:
        return NAME + room * math.log10(max(value, low) / low) / math.log10(high / low)

    height = LINE * len(row.servers) + 24
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(row.title)}">']
    decade = low
    while decade <= high * 1.0001:
        parts.append(f'<line class="grid" x1="{x(decade):.1f}" x2="{x(decade):.1f}" y1="0" y2="{height - 20}"/>')
        parts.append(f'<text class="tick" x="{x(decade):.1f}" y="{height - 6}">{decade:g}</text>')
        decade *= 10
    for line, (server, figure) in enumerate(row.servers.items()):
        top = LINE * line + 4
        middle = top + 9
        own = server.startswith(OWN)
        width = max(1.0, x(figure.median) - NAME)
        parts.append(f'<text class="name" x="{NAME - 8}" y="{middle + 4}">{escape(server)}</text>')
        parts.append(f'<rect x="{NAME}" y="{top}" width="{width:.1f}" height="18" fill="{COLOURS[own]}"/>')
        parts.append(f'<path class="spread" d="M{x(figure.min):.1f} {middle}H{x(figure.max):.1f}"/>')
        words = number(figure.median) + (" generator at its limit" if figure.bottleneck else "")
        parts.append(f'<text x="{max(x(figure.max), NAME + width) + 6:.1f}" y="{middle + 4}">{escape(words)}</text>')
    return "\n".join([*parts, "</svg>"])


def number(value: float) -> str:
    """Format a number with about three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
