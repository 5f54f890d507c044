"""The `channelbox` command: one module for each subcommand.

A command's module imports nothing heavy at its top, because `channelbox --help` loads all of them and must answer at
once. When its function runs, Django is set up with the settings of the installed node and as its user (privileges.py).
"""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from channelbox.cli import (
    backup,
    check,
    doctor,
    first_password,
    manage,
    migrate,
    restart,
    restore,
    restored,
    run,
    status,
    user,
    web,
    worker,
)
from channelbox.cli.errors import explain
from channelbox.cli.privileges import become_service
from channelbox.sd_notify import extend_start_while_it_progresses
from channelbox.version import package_version

app = typer.Typer(
    name="channelbox",
    help="Chat and live dashboards on your own servers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"channelbox {package_version()}")
        raise typer.Exit


@app.callback()
def prepare(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Chat and live dashboards on your own servers."""
    if context.invoked_subcommand != "manage" and {"-h", "--help"} & set(sys.argv[1:]):
        return  # Anybody may read the help of a command.
    if context.invoked_subcommand in PROCESSES:
        extend_start_while_it_progresses()
    if context.invoked_subcommand not in WITHOUT_SERVICE_USER:
        become_service()
    os.environ["DJANGO_SETTINGS_MODULE"] = "channelbox.settings"
    if context.invoked_subcommand not in WITHOUT_DJANGO:
        import django

        django.setup()
    if context.invoked_subcommand in CHECKED:
        from channelbox.checks import refuse_in_production

        refuse_in_production()
    if context.invoked_subcommand in PROCESSES:
        from django.conf import settings

        from channelbox.cli.schema_check import require_tables

        if settings.PRODUCTION:
            require_tables()


# Commands without Django. `manage` sets it up itself, because some of its commands do so in their own way.
WITHOUT_DJANGO = {"manage", "restart", "run"}
# Commands that do not become the service's user. `restart` stays root, because it calls systemctl.
WITHOUT_SERVICE_USER = {"restart", "run"}
# Commands that notify systemd when they are ready.
PROCESSES = {"web", "worker"}
# Commands that production refuses to start with wrong settings.
CHECKED = {"web", "worker", "migrate"}

# In the order of `channelbox --help`: commands for people, then commands for units. Each with its purpose in one line.
COMMANDS: list[tuple[Callable[..., None], str]] = [
    (status.status, "Show the state of every process of the installation."),
    (doctor.doctor, "Diagnose the installation, including access from outside."),
    (check.check, "Check settings, database and Redis."),
    (restart.restart, "Restart the processes of this node one after another."),
    (first_password.first_password, "Create the first administrator and print the password."),
    (backup.backup, "Back up a SQLite database while it is in use."),
    (restore.restore, "Restore a SQLite database from a backup."),
    (restored.restored, "Make clients reload after the database was restored by other means."),
    (migrate.migrate, "Migrate the database to this version."),
    (web.web, "Run one web process."),
    (worker.worker, "Run one worker process."),
    (run.run, "Run everything on this machine to try channelbox."),
]

for command, purpose in COMMANDS:
    app.command(short_help=purpose)(command)
app.command(short_help="Run a Django management command.", context_settings=manage.PASS_ON, add_help_option=False)(
    manage.manage
)
app.add_typer(user.app, name="user")


def main() -> None:
    """Run the console script. An expected error ends it with a sentence and exit status 1."""
    try:
        app(prog_name="channelbox")
    except Exception as error:
        problem = explain(error)
        if problem is None:
            raise
        typer.echo(f"channelbox: {problem}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
