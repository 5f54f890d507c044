"""`channelbox status`: every process of the installation and how it is doing, from any of its nodes."""

import datetime
import json as encoding
from typing import TYPE_CHECKING, Annotated, Any

import typer

from channelbox.console.problem import Problem

if TYPE_CHECKING:
    from channelbox.fleet.reports import Fleet

COLOURS = {"well": "green", "lagging": "yellow", "draining": "cyan", "stale": "red"}


def status(
    json: Annotated[bool, typer.Option("--json", help="A list of objects, for programs.")] = False,
) -> None:
    """Show every process of the whole installation, the unwell first."""
    from channelbox.dashboard.aggregate import aggregate

    data = aggregate(read())
    if json:
        typer.echo(encoding.dumps(data["processes"], indent=2))
    else:
        show(data)


def read() -> "Fleet":
    """The living processes. Raises Problem when Redis cannot be asked."""
    import asyncio

    import redis

    from channelbox.fleet.reports import read_fleet
    from channelbox.realtime.bus import Bus

    async def ask() -> "Fleet":
        try:
            return await read_fleet()
        finally:
            await Bus.current().stop()

    try:
        return asyncio.run(ask())
    except (redis.RedisError, OSError) as error:
        raise Problem(
            f"Redis does not answer: {str(error) or 'nothing within three seconds'}",
            "On the node of Redis: systemctl status redis-server. Its address is CHANNELBOX_REDIS_URL (or _SENTINELS).",
        ) from error


def show(data: dict[str, Any]) -> None:
    """The table, and one line of totals."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    now = datetime.datetime.fromisoformat(data["at"])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("State", "Node", "Unit", "Version", "Up"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Connections", "Rooms", "Messages/s", "Delivered/s", "Lag ms", "Memory MB", "Age s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for process in data["processes"]:
        web = process["kind"] == "web"
        table.add_row(
            f"[{COLOURS[process['state']]}]{process['state']}[/]",
            process["node"],
            process["unit"],
            process["version"],
            duration((now - datetime.datetime.fromisoformat(process["up_since"])).total_seconds()),
            str(process["connections"]) if web else "",
            str(process["rooms"]) if web else "",
            f"{process['messages_per_s']:.1f}",
            f"{process['delivered_per_s']:.0f}" if web else "",
            f"{process['lag_ms']:.0f}",
            f"{process['memory_mb']:.0f}",
            f"{process['age_s']:.1f}",
        )
    console = Console(highlight=False)
    # A pipe has no width: a narrow guess would cut the names off.
    console.print(table, width=None if console.is_terminal else 200, crop=False)
    totals = data["totals"]
    queue = "unknown" if totals["queue"] is None else totals["queue"]
    console.print(
        f"{totals['processes']} processes on {totals['nodes']} nodes, {totals['connections']} connections, "
        f"{totals['rooms']} rooms, {totals['messages_per_s']:.1f} messages/s, queue {queue}"
    )
    if not data["processes"]:
        console.print("Nothing runs. Start it with: systemctl start channelbox.target")


def duration(seconds: float) -> str:
    """Two units at most, as in 3d 4h."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        count, rest = divmod(rest, size)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
