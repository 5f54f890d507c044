"""Names that are stored, sent or configured: processes of adjacent versions, databases and settings rely on them.

Renaming one of these breaks an interface.
"""

import dataclasses

import msgpack
from django.apps import apps
from django.conf import settings

from channelbox.chat.cleanup import CLEANUP_CHANNEL
from channelbox.chat.ingest import INGEST_CHANNEL, INGEST_TYPE
from channelbox.monitoring.process_reports import Report
from channelbox.realtime import redis_keys
from channelbox.realtime.counters import Counters
from channelbox.realtime.envelope import Batch, BatchOutcome, BatchRef, Envelope, IncomingEvent, RoomRef

WITH_ARGUMENT = [
    "room",
    "group",
    "inbox",
    "probe",
    "queue",
    "bulk_queue",
    "channel",
    "unread",
    "lease",
    "places",
    "people",
    "attempts",
]
WITHOUT_ARGUMENT = ["dashboard", "rates", "revoked", "reports", "series", "dashboard_gate", "cleanup"]


def test_redis_keys_are_stable() -> None:
    named = {
        name: getattr(redis_keys, name)("x") if name not in WITHOUT_ARGUMENT else getattr(redis_keys, name)()
        for name in (*WITH_ARGUMENT, *WITHOUT_ARGUMENT)
    }
    assert named == {
        "room": "channelbox:room:x",
        "group": "channelbox:group:x",
        "inbox": "channelbox:inbox:x",
        "probe": "channelbox:probe:x",
        "queue": "channelbox:queue:x",
        "bulk_queue": "channelbox:bulk:x",
        "channel": "channelbox:channel:x",
        "unread": "channelbox:unread:x",
        "lease": "channelbox:lease:x",
        "places": "channelbox:places:x",
        "people": "channelbox:people:x",
        "attempts": "channelbox:attempts:x",
        "dashboard": "channelbox:dashboard",
        "rates": "channelbox:rates",
        "revoked": "channelbox:revoked",
        "reports": "channelbox:reports",
        "series": "channelbox:series",
        "dashboard_gate": "channelbox:dashboard:asked",
        "cleanup": "channelbox:cleanup",
    }
    assert redis_keys.tick(7) == "channelbox:tick:7"


def test_worker_channels_are_stable() -> None:
    assert (INGEST_CHANNEL, INGEST_TYPE, CLEANUP_CHANNEL) == ("chat.ingest", "chat.ingest", "chat.cleanup")


def test_queue_entry_fields_are_stable() -> None:
    entry = Batch(BatchRef("p", 1), RoomRef(2, "r", "e"), []).entry("t")
    assert entry == {
        "type": "t",
        "v": 1,
        "process": "p",
        "batch": 1,
        "key": 2,
        "room": "r",
        "epoch": "e",
        "messages": [],
    }


def test_queued_message_fields_are_stable() -> None:
    event = IncomingEvent("s", 1, "n", "i", "message", "hi", {"removes": 3})
    assert set(event.pack()) == {"sender", "user_id", "name", "id", "kind", "text", "data"}


def test_envelope_fields_are_stable() -> None:
    outcome = BatchOutcome(BatchRef("p", 1), [1, 0], frozenset({0}), {1: ("code", "sentence")})
    envelope = Envelope(1, 2, b"f", 3, [outcome], ("p", ["n"], 1), [(1, b"g")], "e")
    packed = msgpack.unpackb(envelope.pack())
    assert set(packed) == {"v", "first", "last", "frames", "key", "epoch", "outcomes", "presence", "replaced"}
    assert set(packed["outcomes"][0]) == {"process", "batch", "numbers", "known", "refused"}


def test_report_fields_are_stable() -> None:
    assert {field.name for field in dataclasses.fields(Report)} == {
        "process",
        "node",
        "unit",
        "kind",
        "version",
        "started",
        "draining",
        "lag_ms",
        "memory_mb",
        "connections",
        "rooms",
        "totals",
        "rates",
        "stored_in",
        "room_marks",
        "queues",
        "age_s",
    }


def test_counter_names_are_stable() -> None:
    assert {"accepted", "delivered", "received", "sent", "acknowledged", "resent", "stored", "handled"} <= {
        field.name for field in dataclasses.fields(Counters)
    }


def test_tables_and_channel_layers_are_stable() -> None:
    ours = {model._meta.db_table for model in apps.get_models() if model.__module__.startswith("channelbox.")}
    assert ours == {"accounts_user", "chat_deletedname", "chat_event", "chat_installation", "chat_room"}
    assert {name: layer["BACKEND"] for name, layer in settings.CHANNEL_LAYERS.items()} == {
        "default": "channelbox.realtime.layer.ChannelLayer",
        "work": "channelbox.work.queue.WorkLayer",
    }
    assert settings.AUTH_USER_MODEL == "accounts.User"
