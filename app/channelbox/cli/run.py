"""`channelbox run`: everything on this machine alone, for trying it and for development."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from channelbox.cli.errors import CliError
from channelbox.cli.privileges import ENVIRONMENT_FILE

if TYPE_CHECKING:
    from channelbox.cli.local_installation import LocalInstallation

PORTS = 20  # number of ports to try, one after another, when one is in use


def run(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1, or the next free one if it is in use.", min=1)] = 8000,
    web: Annotated[int, typer.Option(help="Number of web processes.", min=1, max=64)] = 2,
    workers: Annotated[int, typer.Option(help="Number of worker processes.", min=0, max=64)] = 1,
    database_url: Annotated[
        str | None, typer.Option(help="Database to use instead of SQLite in the data folder.")
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Folder for the database. It is kept.")] = Path("build/run"),
) -> None:
    """Run everything on this machine: Redis, SQLite, web processes and a worker. Ctrl-C stops everything."""
    import asyncio

    if ENVIRONMENT_FILE.exists():
        raise CliError(
            f"channelbox is installed here ({ENVIRONMENT_FILE} exists); `run` is for machines without the package.",
            "To see the installed processes, run: systemctl status 'channelbox-*'",
        )
    asyncio.run(_run(port, web, workers, database_url, data_dir))


async def _run(port: int, web: int, workers: int, database_url: str | None, folder: Path) -> None:
    import asyncio
    import os
    import signal

    from channelbox.cli.local_installation import LocalInstallation

    free = _free_port(port)
    if free != port:
        typer.echo(f"Port {port} is in use, using port {free} instead.")
    settings = {name: value for name, value in os.environ.items() if name.startswith("CHANNELBOX_")}
    local = LocalInstallation(
        folder, _tell, web=web, workers=workers, port=free, database_url=database_url, variables=settings
    )
    running = asyncio.ensure_future(_show(local))

    def interrupt() -> None:
        if running.cancelling():
            local.kill()
        else:
            typer.echo("\nStopping. Press Ctrl-C again to stop immediately.")
            running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    with _locked(folder):
        typer.echo(f"Starting Redis, {web} web and {workers} worker processes; data in {folder}.")
        try:
            await running
        except asyncio.CancelledError:
            typer.echo("Everything has stopped.")


async def _show(local: "LocalInstallation") -> None:
    """Run the installation until cancelled."""
    import asyncio

    await local.start()
    try:
        typer.echo(await _welcome(local))
        await asyncio.Event().wait()
    finally:
        await local.stop()


async def _welcome(local: "LocalInstallation") -> str:
    name, password = await _administrator(local)
    return f"""
channelbox runs at {local.url}/
  Administrator: {name}   Password: {password}

Three things to try:
  1. Open {local.url}/chat/room/hello/ in two windows and send messages.
  2. Watch {local.url}/chat/dashboard/ while you do.
  3. Kill one of the processes below, e.g. kill -9 {local.workers[0].pid if local.workers else local.web[0].pid}: \
it is restarted, and nothing is lost.

Processes: {", ".join(f"{child.name} {child.pid}" for child in local.children)}
Ctrl-C stops everything; the data stays in {local.folder}.
"""


async def _administrator(local: "LocalInstallation") -> tuple[str, str]:
    """Return the first administrator's name and password, which is kept beside the database for the next run."""
    import json

    file = local.folder / "administrator.json"
    if not file.exists():
        output = await local.run("first-password", "--reset", "--json")
        file.touch(mode=0o600)
        file.write_text(output)
    administrator = json.loads(file.read_text())
    return administrator["name"], administrator["password"]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises CliError while another `channelbox run` uses the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CliError(
                f"Another `channelbox run` is using {folder}.", "Stop it, or choose another folder with --data-dir."
            ) from None
        yield


def _free_port(first: int) -> int:
    from channelbox.cli.local_installation import HOST
    from channelbox.server import bind

    for port in range(first, min(first + PORTS, 65_536)):
        with contextlib.suppress(OSError):
            bind(HOST, port).close()
            return port
    raise CliError(f"No port from {first} to {first + PORTS - 1} is free.", "Choose another port with --port.")


def _tell(name: str, line: str) -> None:
    # The terminal may be gone, but the processes must still be stopped in order.
    with contextlib.suppress(OSError):
        typer.echo(f"{name:>9} | {line}")
