"""`channelbox doctor`: problems of the installation, each with its remedy."""

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from channelbox.cli.errors import CliError
from channelbox.cli.finding import Finding, note, well, wrong
from channelbox.cli.site_probe import SiteProbe

BACKUP_HOURS = 48  # age from which the newest backup is noted; backups are made every night
SIGNS = {"well": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("WRONG", "red")}


def doctor(
    url: Annotated[
        str,
        typer.Argument(help="The address that people use. Default: the first configured origin.", show_default=False),
    ] = "",
) -> None:
    """Diagnose the installation from this node: database, Redis, processes, and access through the web server."""
    found = [*_printed(_local()), *_printed(SiteProbe(url or _configured()).examine())]
    if any(finding.verdict == "wrong" for finding in found):
        raise typer.Exit(1)


def _printed(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Print each finding as soon as it is available, and pass it on."""
    for finding in findings:
        sign, colour = SIGNS[finding.verdict]
        typer.secho(f"{sign:<6}", fg=colour, nl=False)
        typer.echo(finding.sentence)
        if finding.remedy:
            typer.echo(f"      {finding.remedy}")
        yield finding


def _configured() -> str:
    from django.conf import settings

    return next(iter(settings.CHANNELBOX_ORIGINS), "https://127.0.0.1")


def _local() -> Iterator[Finding]:
    yield from _database()
    yield from _backups()
    yield from _processes()


def _database() -> Iterator[Finding]:
    from django.db import DatabaseError, InterfaceError, connection
    from django.db.migrations.executor import MigrationExecutor

    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except (DatabaseError, InterfaceError) as error:
        yield wrong(
            f"The database does not respond: {str(error).strip()}",
            "Its address is set in CHANNELBOX_DATABASE_URL. On its node, run: systemctl status postgresql",
        )
        return
    finally:
        connection.close()
    if missing:
        yield wrong(
            f"The database lacks migrations of this version. Missing: {len(missing)}.", "Run: channelbox migrate"
        )
    else:
        yield well(f"The database responds ({connection.vendor}) and has the tables of this version.")


def _backups() -> Iterator[Finding]:
    """Check the newest backup of SQLite. PostgreSQL's are on its own node, where no channelbox can check them."""
    from channelbox.cli import sqlite_backup

    database = sqlite_backup.sqlite_file()
    if database is None or not database.exists():
        return
    newest = sqlite_backup.newest_first(sqlite_backup.folder())[:1]
    if not newest:
        yield note(
            f"There is no backup of the database in {sqlite_backup.folder()} yet.", "Make one with: channelbox backup"
        )
        return
    hours = (time.time() - newest[0].stat().st_mtime) / 3600
    if hours > BACKUP_HOURS:
        yield note(
            f"The newest backup of the database is {hours / 24:.0f} days old.",
            "To find out why, run: systemctl status channelbox-backup.timer channelbox-backup.service",
        )
    else:
        yield well(f"The newest backup of the database is {hours:.0f} hours old.")


def _processes() -> Iterator[Finding]:
    from channelbox.cli.status import read
    from channelbox.monitoring.health import state

    try:
        reports = read().reports
    except CliError as problem:
        yield wrong(problem.sentence, problem.remedy)
        return
    yield well("Redis responds.")
    for kind, lost in (("web", "nobody can connect"), ("worker", "messages wait to be stored")):
        count = sum(report.kind == kind and state(report) != "stale" for report in reports)
        if count:
            yield well(f"Running {kind} processes: {count}.")
        else:
            yield wrong(
                f"No {kind} process is reporting: {lost}.",
                f"On a {kind} node, run: systemctl start channelbox-{kind}@1",
            )
    for report in reports:
        if state(report) in ("stale", "lagging"):
            name = f"{report.unit} on {report.node}"
            yield note(
                f"{name} is {state(report)}: last report {report.age_s:.0f} s ago, lag {report.lag_ms:.0f} ms.",
                f"On that node, run: systemctl status channelbox-{report.unit}",
            )
