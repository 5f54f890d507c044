"""`channelbox migrate`: the migrations of this version, applied by one process at a time in the whole cluster."""

from typing import Annotated

import typer


def migrate(
    wait: Annotated[float, typer.Option(help="Seconds to wait for the database to answer.", min=0)] = 60,
) -> None:
    """Migrate the database to this version. Safe to run anywhere and repeatedly: one process migrates, others wait."""
    from django.core.management import call_command
    from django.core.management.commands import migrate as django_migrate
    from django.db import connection

    from channelbox.cli.atomic_migrations import AtomicMigrationExecutor
    from channelbox.cli.database_lock import database_lock, wait_for_database

    with database_lock("migrate", wait, tell):
        wait_for_database(wait, tell)
        executor = AtomicMigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        newer = set(executor.loader.applied_migrations) - set(executor.loader.disk_migrations)
        if newer:
            tell("The database has been migrated by a newer version: " + ", ".join(sorted(map(".".join, newer))))
        django_migrate.MigrationExecutor = AtomicMigrationExecutor  # type: ignore[attr-defined]  # no option for it
        # Even with nothing to apply: it creates permissions at its end, and the last run may have been killed before.
        call_command("migrate", interactive=False, verbosity=1 if plan else 0)
        from channelbox.chat.epochs import Installation

        if Installation.recognise_database():
            tell("This is not the same PostgreSQL database as before: clients reload their rooms.")
        connection.close()
    tell(f"The database is up to date. Applied migrations: {len(plan)}." if plan else "The database is up to date.")


def tell(sentence: str) -> None:
    typer.echo(sentence)
