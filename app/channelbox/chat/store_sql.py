"""The SQL of the storing transaction: what the ORM would generate, without building it again for each batch.

On PostgreSQL reading takes two round trips and writing two more, whatever the number of rooms and messages. Values are
passed as arrays, so the SQL text does not depend on their number, and all statements but one stay prepared. On SQLite,
where a round trip costs nothing, statements run one by one.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from django.db import connection

from channelbox.accounts.models import User
from channelbox.chat.epochs import Installation
from channelbox.chat.models import Event, Room

ROOM, EVENT, USER, INSTALLATION = (model._meta.db_table for model in (Room, Event, User, Installation))
ROOM_FIELDS = (
    "id",
    "name",
    "members_only",
    "closed",
    "last_seq",
    "epoch",
    "floor",
)  # what the store needs, in the model's order
# All except the id, which the database assigns; each with the SQL type of an array of its values, as psycopg sends it
EVENT_FIELDS = {
    "room_id": "bigint[]",
    "seq": "bigint[]",
    "kind": "text[]",
    "sender": "text[]",
    "client_id": "text[]",
    "user_id": "bigint[]",
    "name": "text[]",
    "text": "text[]",
    "at": "timestamptz[]",
    "data": "text[]::jsonb[]",
}

Row = Sequence[Any]


class Statement(NamedTuple):
    """SQL with its parameters. `prepared`: whether PostgreSQL keeps a prepared statement of it."""

    text: str
    parameters: Row
    prepared: bool = True


# Timeouts for the rest of the transaction, on PostgreSQL only: it does not wait longer for what another transaction has
# locked (a user's row, say), and a worker that stops halfway (its machine is paused or cut off) loses its locks.
LIMITS = Statement(
    "SELECT set_config('lock_timeout', %s, true), set_config('idle_in_transaction_session_timeout', '5s', true)",
    ("100ms",),
)
LOCK_TIMEOUT_ALONE = "1ms"  # for each room alone after all together have failed: there may be hundreds


class Read(NamedTuple):
    """The rows that a batch depends on. Rooms are given by their keys."""

    rooms: dict[int, Room]  # locked
    names: dict[int, str]  # of all rooms that exist, also of those that another transaction has locked
    known: dict[tuple[int, str, str], int]  # stored already: (room, sender, id) and the number
    active: dict[int, bool]  # senders who may still sign in, and whether they are on the staff
    locked_senders: set[int]  # those of them whose rows another transaction has locked; only if cautious


def read(
    asked: Collection[tuple[int, str, str]], users: Collection[int], *, cautious: bool = False, alone: bool = False
) -> Read:
    """Lock the rooms, then read the rest. Each statement sees what was committed before it began.

    `asked`: (room key, sender, sender's id) of each message. `users`: ids of the users who send them. Rooms that are
    locked already are left out; for other locks see `LIMITS`. `cautious`: find out which senders' rows are locked.
    `alone`: do not wait for other locks either.
    """
    if not asked:
        return Read({}, {}, {}, {}, set())
    limits = LIMITS._replace(parameters=(LOCK_TIMEOUT_ALONE,)) if alone else LIMITS
    lock = " FOR UPDATE SKIP LOCKED" if connection.features.has_select_for_update_skip_locked else ""
    in_keys, keys = _in_list({key for key, _, _ in asked}, "bigint[]")
    messages, values = _rows_sql(asked, ["bigint[]", "text[]", "text[]"])
    *_, rooms, known, active = _execute(
        *([limits] if connection.vendor == "postgresql" else []),
        Statement(
            f"SELECT {', '.join(ROOM_FIELDS)}, (SELECT epoch FROM {INSTALLATION} WHERE id = {Installation.ONLY}) "
            f"FROM {ROOM} WHERE id {in_keys} ORDER BY id{lock}",
            keys,
        ),
        # One index lookup per message, planned each time: as a join, or with a plan from before PostgreSQL knew how
        # large the table is, it would read all events of the room.
        Statement(
            f"WITH asked (room_id, sender, client_id) AS ({messages}) "
            f"SELECT {ROOM}.id, {ROOM}.name, asked.sender, asked.client_id, (SELECT seq FROM {EVENT} WHERE "
            f"room_id = {ROOM}.id AND {EVENT}.sender = asked.sender AND {EVENT}.client_id = asked.client_id) "
            f"FROM asked JOIN {ROOM} ON {ROOM}.id = asked.room_id",
            values,
            prepared=False,
        ),
        _senders(users, cautious),
    )
    return Read(
        {row[0]: _room(row) for row in rooms},
        {room: name for room, name, _, _, _ in known},
        {(room, sender, id): seq for room, _, sender, id, seq in known if seq is not None},
        {user: bool(staff) for user, staff, _ in active},
        {user for user, _, held in active if held},
    )


def _senders(users: Collection[int], cautious: bool) -> Statement:
    """Return the statement that reads the senders who may still sign in, and whether their rows are locked by others.

    `cautious`: lock the rows as the foreign key of an event locks them at the commit. Transactions can share this lock.
    But taken so early, it coincides with those of other workers, and each time PostgreSQL has to record who shares it.
    """
    among, ids = _in_list(users, "bigint[]")
    if not (cautious and connection.features.has_select_for_update_skip_locked):
        return Statement(f"SELECT id, is_staff, false FROM {USER} WHERE id {among} AND is_active", ids)
    return Statement(
        f"WITH free AS (SELECT id FROM {USER} WHERE id {among} AND is_active FOR KEY SHARE SKIP LOCKED) "
        f"SELECT {USER}.id, is_staff, free.id IS NULL FROM {USER} LEFT JOIN free ON free.id = {USER}.id "
        f"WHERE {USER}.id {among} AND is_active",
        ids * 2,
    )


def _room(row: Row) -> Room:
    room = Room.from_db(connection.alias, ROOM_FIELDS, row[:-1])
    room.installation_epoch = row[-1]  # type: ignore[attr-defined]  # as the manager reads it
    return room


def write(events: Iterable[Event], rooms: Iterable[Room]) -> None:
    """Insert new events and update the last numbers of their rooms. There is at least one of each.

    No signal is sent, because saving a room causes a check of the permissions of everybody in it.
    """
    fields = ", ".join(EVENT_FIELDS)
    new = [[getattr(event, name) for name in EVENT_FIELDS] for event in events]
    for row in new:
        row[-1] = None if row[-1] is None else json.dumps(row[-1])
    numbers = [(room.last_seq, room.changed_at, room.pk) for room in rooms]
    if connection.vendor == "postgresql":
        rows, values = _rows_sql(new, EVENT_FIELDS.values())
        ends, those = _rows_sql(numbers, ["bigint[]", "timestamptz[]", "bigint[]"])
        _execute(
            Statement(f"INSERT INTO {EVENT} ({fields}) {rows}", values),
            Statement(
                f"WITH ends (seq, at, id) AS ({ends}) "
                f"UPDATE {ROOM} SET last_seq = ends.seq, changed_at = ends.at FROM ends WHERE {ROOM}.id = ends.id",
                those,
            ),
        )
        return
    time = connection.ops.adapt_datetimefield_value
    marks = ", ".join(["%s"] * len(EVENT_FIELDS))
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {EVENT} ({fields}) VALUES ({marks})", [(*row[:-2], time(row[-2]), row[-1]) for row in new]
        )
        cursor.executemany(
            f"UPDATE {ROOM} SET last_seq = %s, changed_at = %s WHERE id = %s",
            [(seq, time(at), pk) for seq, at, pk in numbers],
        )


def _in_list(values: Collection[Any], array: str) -> tuple[str, list[Any]]:
    """Return the SQL condition that a column is one of `values` (without the column), and its parameters."""
    if connection.vendor == "postgresql":
        return f"= ANY(%s::{array})", [list(values)]
    return f"IN ({', '.join(['%s'] * len(values))})", list(values)


def _rows_sql(rows: Collection[Row], arrays: Iterable[str]) -> tuple[str, list[Any]]:
    """Return the SQL that yields these rows, and its parameters."""
    if connection.vendor == "postgresql":
        columns = ", ".join(f"%s::{array}" for array in arrays)
        return f"SELECT * FROM UNNEST({columns})", [list(column) for column in zip(*rows, strict=True)]
    row = f"({', '.join('%s' for _ in arrays)})"
    return f"VALUES {', '.join([row] * len(rows))}", [value for each in rows for value in each]


def _execute(*statements: Statement) -> list[list[Row]]:
    """Return the rows of each statement. On PostgreSQL this takes two round trips, the last statement by itself.

    psycopg ends a pipeline with a Flush after its Sync, which stops PostgreSQL's idle-in-transaction timer until the
    next statement has ended. A statement right after the pipeline starts it again. Raises Django's database errors.
    """
    if connection.vendor != "postgresql":
        with connection.cursor() as one:
            answers = []
            for each in statements:
                one.execute(each.text, each.parameters)
                answers.append(one.fetchall())
            return answers
    # Imported here: a process that uses SQLite, often on a small machine, starts without it.
    import psycopg

    # Not Django's cursors, which insert the values into the text: PostgreSQL would plan it again each time.
    cursors = [psycopg.Cursor(connection.connection) for _ in statements]
    with connection.wrap_database_errors:
        *first, (cursor, last) = zip(cursors, statements, strict=True)
        if first:
            with connection.connection.pipeline():
                for each_cursor, each in first:
                    each_cursor.execute(each.text, each.parameters, prepare=each.prepared)
        cursor.execute(last.text, last.parameters, prepare=last.prepared)
        return [cursor.fetchall() if cursor.description else [] for cursor in cursors]
