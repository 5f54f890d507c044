"""Migrations that are committed in one transaction with the record that they were applied.

Django first commits a migration that creates an index after a table, and then records it. A process that is killed
between the two leaves a table that the next run tries to create again, and every later run fails.
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
    """Django's executor with such transactions. A migration with `atomic = False` is applied as Django does it."""

    def apply_migration(self, state: ProjectState, migration: Migration, *args: Any, **kwargs: Any) -> ProjectState:
        """Apply a migration and record it: both or neither."""
        if not migration.atomic:
            return super().apply_migration(state, migration, *args, **kwargs)
        with _transaction(self.connection):
            return super().apply_migration(state, migration, *args, **kwargs)


@contextmanager
def _transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    # SQLite cannot disable foreign key checks within a transaction, and Django's schema editor needs them disabled.
    connection.disable_constraint_checking()
    try:
        with transaction.atomic(using=connection.alias):
            yield
    finally:
        connection.enable_constraint_checking()
