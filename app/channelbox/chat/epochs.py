"""What the numbers of events are numbers of: an epoch changes when the same numbers begin to mean something else."""

from typing import Any

from django.db import connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler


class Random64(models.Func):
    """64 random bits, as a signed number, drawn by the database."""

    arity = 0
    output_field = models.BigIntegerField()
    allowed_default = True
    template = "random()"  # SQLite's

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **kwargs: Any) -> Any:
        bits = "('x' || substr(md5(gen_random_uuid()::text), 1, 16))::bit(64)::bigint"
        return self.as_sql(compiler, connection, template=bits, **kwargs)


def full_epoch(installation: int, room: int) -> str:
    """Return the epoch of a room as clients get it, out of the two signed numbers of 64 bits."""
    return f"{installation % 2**64:016x}-{room % 2**64:016x}"


def installation_epoch(full: str) -> int:
    """Return the installation's part of an epoch as clients get it, as the signed number that is stored."""
    unsigned = int(full.partition("-")[0], 16)
    return unsigned - 2**64 if unsigned >= 2**63 else unsigned


class Installation(models.Model):
    """The one row of what is true of the whole record."""

    ONLY = 1  # its primary key

    epoch = models.BigIntegerField(
        db_default=Random64(), help_text="Another one after a backup was restored: clients forget what they have."
    )
    database_oid = models.BigIntegerField(null=True, help_text="Of the PostgreSQL database that this row was in.")

    def __str__(self) -> str:
        return f"epoch {self.epoch}"

    @classmethod
    def draw_epoch(cls) -> None:
        """Draw another epoch: numbers that clients have heard may belong to other events now."""
        changed = cls.objects.filter(pk=cls.ONLY).update(epoch=Random64())
        if not changed:
            cls.objects.create(pk=cls.ONLY)

    @classmethod
    def replace_epoch(cls, epoch: int) -> bool:
        """Draw another epoch in place of this one. Return whether it was this one, and so not replaced already."""
        if cls.objects.filter(pk=cls.ONLY, epoch=epoch).update(epoch=Random64()):
            return True
        return cls.objects.get_or_create(pk=cls.ONLY)[1]

    @classmethod
    def recognise_database(cls) -> bool:
        """Draw another epoch if PostgreSQL's database is another one than before. Return whether it is."""
        if connection.vendor != "postgresql":
            return False
        with connection.cursor() as cursor:
            cursor.execute("SELECT oid::bigint FROM pg_database WHERE datname = current_database()")
            (oid,) = cursor.fetchone()
        row, _ = cls.objects.get_or_create(pk=cls.ONLY)
        if row.database_oid == oid:
            return False
        if moved := row.database_oid is not None:
            cls.draw_epoch()
        cls.objects.filter(pk=cls.ONLY).update(database_oid=oid)
        return moved
