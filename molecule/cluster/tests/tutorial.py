"""The chat of the Channels tutorial: a consumer that does the same, on the layer that TUTORIAL_LAYER names."""

import json
import os
import sys

import django
import uvicorn
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path


class ChatConsumer(AsyncWebsocketConsumer):
    """Sends every message of a room to the room's group."""

    async def connect(self) -> None:
        self.group = f"chat_{self.scope['url_route']['kwargs']['room']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        message = json.loads(text_data or "")["message"]
        await self.channel_layer.group_send(self.group, {"type": "chat.message", "message": message})

    async def chat_message(self, event: dict[str, str]) -> None:
        await self.send(text_data=json.dumps({"message": event["message"]}))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "channelbox.settings")
    layer = os.environ["TUTORIAL_LAYER"]
    if layer.startswith("channels."):
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": layer}}
    assert settings.CHANNEL_LAYERS["default"]["BACKEND"] == layer
    django.setup()
    chat = URLRouter([path("ws/chat/<room>/", ChatConsumer.as_asgi())])
    uvicorn.run(ProtocolTypeRouter({"websocket": chat}), host="127.0.0.1", port=int(sys.argv[1]), lifespan="off")
