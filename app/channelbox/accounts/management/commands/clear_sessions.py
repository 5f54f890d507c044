"""`channelbox manage clear_sessions`: Django's clearsessions in many short transactions instead of one.

Each guest creates a session, so a night may have hundreds of thousands to remove. In one transaction on SQLite, nobody
could send a message meanwhile.
"""

import time
from typing import Any

from django.contrib.sessions.models import Session
from django.core.management import BaseCommand
from django.utils import timezone

MAX_BATCH = 500  # sessions removed in one transaction, which takes some milliseconds
PAUSE_SECONDS = 0.05  # between two transactions, for others that wait to write


class Command(BaseCommand):
    help = "Removes expired sign-in sessions in small batches."

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        expired = Session.objects.filter(expire_date__lt=now)
        while keys := list(expired.values_list("pk", flat=True)[:MAX_BATCH]):
            expired.filter(pk__in=keys).delete()
            time.sleep(PAUSE_SECONDS)
