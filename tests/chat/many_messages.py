"""Inserts very many messages into a room with one SQL statement."""

from django.db import connection

from channelbox.accounts.models import User
from channelbox.chat.models import Event, Room


def insert_messages(room: Room, count: int, user: User | None = None) -> None:
    """Store events 1 to `count`, from a guest if no user is given."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count:d}) "
            f"INSERT INTO {Event._meta.db_table} (room_id, seq, kind, sender, client_id, user_id, name, text, at) "
            "SELECT %s, n, 'message', %s, 'id-' || n, %s, 'alice', 'message ' || n, CURRENT_TIMESTAMP FROM numbers",
            [room.pk, f"u:{user.pk}" if user else "g:guest", user.pk if user else None],
        )
    Room.objects.filter(pk=room.pk).update(last_seq=count)
