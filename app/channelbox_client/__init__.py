"""A client of channelbox's rooms: state machines that own no socket and no clock, and a transport for asyncio.

`RoomClient` follows docs/protocol.md; `aio.Room` runs one over the library `websockets`. The same machines, with the
same names and states, are in JavaScript in clients/js.
"""

from channelbox_client.client import RoomClient
from channelbox_client.connection import Connection
from channelbox_client.effects import (
    Connect,
    Drop,
    Effect,
    Event,
    Forget,
    Gap,
    Other,
    OutboxChanged,
    Refused,
    Send,
    State,
    Stored,
    Welcome,
)
from channelbox_client.outbox import Item, Outbox
from channelbox_client.room import Room

__all__ = [
    "Connect",
    "Connection",
    "Drop",
    "Effect",
    "Event",
    "Forget",
    "Gap",
    "Item",
    "Other",
    "Outbox",
    "OutboxChanged",
    "Refused",
    "Room",
    "RoomClient",
    "Send",
    "State",
    "Stored",
    "Welcome",
]
