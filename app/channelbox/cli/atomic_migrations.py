"""Each migration in one transaction with the note that it was applied.

Django commits a migration that made an index after a table first and notes it afterwards. A process that is killed
between the two leaves a table that the next run wants to make again, and every later run fails.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration
from django.db.migrations.state import ProjectState


class AtomicMigrationExecutor(MigrationExecutor):
    """Django's executor; a migration that says `atomic = False` is applied as Django does it."""

    def apply_migration(self, state: ProjectState, migration: Migration, *args: Any, **kwargs: Any) -> ProjectState:
        """Apply a migration and note it, both or neither."""
        if not migration.atomic:
            return super().apply_migration(state, migration, *args, **kwargs)
        with _transaction(self.connection):
            return super().apply_migration(state, migration, *args, **kwargs)


@contextmanager
def _transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    # SQLite cannot stop checking foreign keys within a transaction, and Django's schema editor wants them unchecked.
    connection.disable_constraint_checking()
    try:
        with transaction.atomic(using=connection.alias):
            yield
    finally:
        connection.enable_constraint_checking()
