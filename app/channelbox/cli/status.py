"""`channelbox status`: every process of the installation and its state, on any of its nodes."""

import datetime
import json as encoding
from typing import TYPE_CHECKING, Annotated, Any

import typer

from channelbox.cli.errors import CliError

if TYPE_CHECKING:
    from channelbox.monitoring.process_reports import Processes

TEXT_HEADINGS = ("State", "Node", "Unit", "Version", "Up")
HEADINGS = (*TEXT_HEADINGS, "Connections", "Rooms", "Messages/s", "Delivered/s", "Lag ms", "MB", "Last report s")
NARROW_HEADINGS = ("State", "Node", "Unit", "Up", "Connections", "Messages/s", "Lag ms")
WIDE = 110  # columns of a terminal that the whole table needs
COLOURS = {"well": "green", "lagging": "yellow", "draining": "cyan", "stale": "red"}


def status(
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects, for programs.")] = False,
) -> None:
    """Show the state of every process of the whole installation, those with problems first."""
    from channelbox.dashboard.aggregate import aggregate

    data = aggregate(read())
    if json:
        typer.echo(encoding.dumps(data["processes"], indent=2))
    else:
        show(data)


def read() -> "Processes":
    """Return the living processes. Raises CliError when Redis does not answer."""
    import asyncio

    import redis

    from channelbox.monitoring.process_reports import read_processes
    from channelbox.realtime.bus import Bus

    async def ask() -> "Processes":
        try:
            return await read_processes()
        finally:
            await Bus.current().stop()

    try:
        return asyncio.run(ask())
    except (redis.RedisError, OSError) as error:
        raise CliError(
            f"Redis does not respond: {str(error) or 'no answer within three seconds'}",
            "On the Redis node, run: systemctl status redis-server. Its address is set in CHANNELBOX_REDIS_URL "
            "(or _SENTINELS).",
        ) from error


def show(data: dict[str, Any]) -> None:
    """Print the table and one line of totals. A narrow terminal gets the columns that tell what is unhealthy."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        # A pipe has no width, and the default of 80 would cut names off.
        console = Console(highlight=False, width=200)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    rows = [row(process, datetime.datetime.fromisoformat(data["at"])) for process in data["processes"]]
    headings = [name for name in HEADINGS if console.width >= WIDE or name in NARROW_HEADINGS]
    for name in headings:
        table.add_column(name, justify="left" if name in TEXT_HEADINGS else "right", no_wrap=True)
    for cells in rows:
        table.add_row(*(cells[name] for name in headings))
    console.print(table)
    totals = data["totals"]
    queue = "unknown" if totals["queue"] is None else totals["queue"]
    console.print(
        f"Processes {totals['processes']} · nodes {totals['nodes']} · connections {totals['connections']} · "
        f"rooms {totals['rooms']} · messages/s {totals['messages_per_s']:.1f} · queue {queue}"
    )
    if not rows:
        console.print("No process is running. Start channelbox with: systemctl start channelbox.target")


def row(process: dict[str, Any], now: datetime.datetime) -> dict[str, str]:
    """Return the cells of a process by heading."""
    web = process["kind"] == "web"
    return {
        "State": f"[{COLOURS[process['state']]}]{process['state']}[/]",
        "Node": process["node"],
        "Unit": process["unit"],
        "Version": process["version"],
        "Up": duration((now - datetime.datetime.fromisoformat(process["up_since"])).total_seconds()),
        "Connections": str(process["connections"]) if web else "",
        "Rooms": str(process["rooms"]) if web else "",
        "Messages/s": f"{process['messages_per_s']:.1f}",
        "Delivered/s": f"{process['delivered_per_s']:.0f}" if web else "",
        "Lag ms": f"{process['lag_ms']:.0f}",
        "MB": f"{process['memory_mb']:.0f}",
        "Last report s": f"{process['age_s']:.1f}",
    }


def duration(seconds: float) -> str:
    """Return a duration for people, with at most two units: 3d 4h."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        count, rest = divmod(rest, size)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
