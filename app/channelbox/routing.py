"""Routes of WebSockets and worker channels to their consumers."""

from django.urls import re_path

from channelbox.chat.consumers import ChatConsumer
from channelbox.chat.ingest import INGEST_CHANNEL, IngestConsumer
from channelbox.chat.models import ROOM_NAME
from channelbox.dashboard.consumers import DashboardConsumer
from channelbox.realtime.origin_check import UnknownAddress

websockets = [
    re_path(rf"^ws/chat/(?P<room_name>{ROOM_NAME})/\Z", ChatConsumer.as_asgi()),
    re_path(r"^ws/dashboard/\Z", DashboardConsumer.as_asgi()),
    re_path(r"", UnknownAddress.as_asgi()),
]

workers = {INGEST_CHANNEL: IngestConsumer.as_asgi()}
