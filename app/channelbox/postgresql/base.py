"""The database backend, in the module where Django looks for it."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from psycopg_pool import ConnectionPool

from channelbox.postgresql.pool import Pool


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's backend with our pool in the place of the one that Django would make."""

    # Django's own names, which django-stubs lacks
    _connection_pools: ClassVar[dict[str, ConnectionPool]]
    _configure_connection: Callable[[Any], object]

    @property
    def pool(self) -> ConnectionPool | None:
        options = self.settings_dict["OPTIONS"].get("pool")
        if options and self.alias not in self._connection_pools and self.alias != NO_DB_ALIAS:
            pool = Pool(
                # Django switches autocommit off when it begins a transaction.
                kwargs={**self.get_connection_params(), "autocommit": True},
                configure=self._configure_connection,
                **options,
            )
            self._connection_pools.setdefault(self.alias, pool)
        made: ConnectionPool | None = super().pool
        return made
