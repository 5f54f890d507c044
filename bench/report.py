"""Writes the figures to bench.json and bench.html, and shows them as tables on the terminal, ratios first."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.figures import OWN, TITLES, Figure, rows
from bench.plots import bars, number

EXPLAINED = (
    "How many times better channelbox is than each of the others, by the medians of the runs; below 1 it is worse. "
    "Times drift from run to run on any machine: read ratios of one run, and the spread beside them."
)
WIDTH = 170  # columns
LIMITED = "*: the load generator was itself the bottleneck; the server could do better."
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 2rem auto; padding: 0 1rem; color: #1d2329; }
p, svg { max-width: 60rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #dfe3e8; }
th:first-child, td:first-child { text-align: left; }
svg { display: block; width: 100%; margin: .3rem 0 1.4rem; font-size: 13px; }
.name { text-anchor: end; } .tick { text-anchor: middle; fill: #6b7580; font-size: 11px; }
.grid { stroke: #e6e9ed; } .spread { stroke: #c0392b; stroke-width: 3; }
dt { font-weight: 600; } h3 { margin-bottom: 0; font-size: 1rem; }
"""


def console() -> Console:
    """Return a console, which is wide enough for the tables unless the output is a terminal."""
    output = Console(highlight=False)
    if not output.is_terminal:
        output.width = WIDTH
    return output


def write(folder: Path, machine: dict[str, Any], figures: Sequence[Figure], notes: Sequence[str]) -> None:
    """Write bench.json and bench.html into a folder."""
    content = {"machine": machine, "figures": [figure.record() for figure in figures], "notes": list(notes)}
    (folder / "bench.json").write_text(json.dumps(content, indent=1) + "\n")
    (folder / "bench.html").write_text(page(machine, figures, notes))


def show(console: Console, figures: Sequence[Figure], notes: Sequence[str]) -> None:
    """Print the figures as tables."""
    names = servers(figures)
    ratios = Table(title="How many times better channelbox is", box=box.SIMPLE)
    values = Table(title="Medians, least to most of the runs", box=box.SIMPLE)
    for table, columns in ((ratios, [name for name in names if name != OWN]), (values, names)):
        table.add_column("")
        for name in columns:
            table.add_column(name, justify="right")
    for row in rows(figures):
        ratios.add_row(row.title, *(times(row.advantage(name)) for name in names if name != OWN))
        values.add_row(row.title, *(spread(row.servers.get(name)) for name in names))
    console.print(ratios)
    console.print(values)
    if any(figure.bottleneck for figure in figures):
        console.print(LIMITED)
    for note in notes:
        console.print(note)


def page(machine: dict[str, Any], figures: Sequence[Figure], notes: Sequence[str]) -> str:
    """Return the page as self-contained HTML."""
    names = servers(figures)
    others = [name for name in names if name != OWN]
    compared = rows(figures)
    parts = ["<h1>channelbox beside its peers</h1>", f"<p>{EXPLAINED}</p>"]
    parts.append(table(["", *others], ([row.title, *(times(row.advantage(o)) for o in others)] for row in compared)))
    parts.append("<h2>Medians, least to most of the runs</h2>")
    parts.append(table(["", *names], ([row.title, *(spread(row.servers.get(n)) for n in names)] for row in compared)))
    if any(figure.bottleneck for figure in figures):
        parts.append(f"<p>{LIMITED}</p>")
    parts += [f"<p>{escape(note)}</p>" for note in notes]
    parts.append("<h2>Plots</h2><p>Logarithmic. The red line goes from the least to the most of the runs.</p>")
    heading = ""
    for row in compared:
        if row.figure != heading:
            heading = row.figure
            parts.append(f"<h2>{escape(TITLES[heading])}</h2>")
        parts.append(f"<h3>{escape(row.title)}</h3>{bars(row)}")
    parts.append("<h2>Machine</h2><dl>")
    parts += [f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in machine.items()]
    body = "\n".join([*parts, "</dl>"])
    head = f'<meta charset="utf-8"><title>channelbox beside its peers</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def table(head: Sequence[str], lines: Any) -> str:
    first = "".join(f"<th>{escape(word)}</th>" for word in head)
    rest = "".join("<tr>" + "".join(f"<td>{escape(word)}</td>" for word in line) + "</tr>\n" for line in lines)
    return f'<div class="table"><table><tr>{first}</tr>\n{rest}</table></div>'


def servers(figures: Sequence[Figure]) -> list[str]:
    """Return the names of the servers, in the order in which they were measured."""
    return list(dict.fromkeys(figure.server for figure in figures))


def times(value: float | None) -> str:
    return "" if value is None else f"{number(value)}x"


def spread(figure: Figure | None) -> str:
    if figure is None:
        return ""
    star = "*" if figure.bottleneck else ""
    if figure.min == figure.max:
        return number(figure.median) + star
    return f"{number(figure.median)}{star} ({number(figure.min)} … {number(figure.max)})"
