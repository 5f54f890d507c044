"""URLs of the chat's pages and API."""

from django.urls import path, re_path

from channelbox.chat import api, views
from channelbox.chat.models import ROOM_NAME

app_name = "chat"

urlpatterns = [
    path("", views.rooms, name="rooms"),
    # The WebSocket route accepts the same names (routing.py).
    re_path(rf"^room/(?P<room_name>{ROOM_NAME})/\Z", views.room, name="room"),
    path("api/rooms", api.rooms, name="list"),
    re_path(rf"^api/rooms/(?P<room_name>{ROOM_NAME})/messages\Z", api.messages, name="history"),
    re_path(rf"^api/rooms/(?P<room_name>{ROOM_NAME})/events\Z", api.events, name="events"),
    re_path(r"^api/", api.unknown_address),
]
