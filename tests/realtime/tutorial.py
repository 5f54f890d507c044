"""Consumers as in the Channels tutorial, which use nothing of channelbox, and a process that runs one.

`python -m tests.realtime.tutorial` joins a room. It sends each line of its standard input to the room, and prints each
message that its client receives as a line.
"""

import asyncio
import json
import sys
from typing import Any

from asgiref.sync import async_to_sync
from channels.generic.websocket import AsyncWebsocketConsumer, JsonWebsocketConsumer, WebsocketConsumer


class AsyncChat(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        self.group = "chat_" + self.scope["url_route"]["kwargs"]["room_name"]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        said = json.loads(text_data or "")["message"]
        await self.channel_layer.group_send(self.group, {"type": "chat.message", "message": said})

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps({"message": event["message"]}))


class SyncChat(WebsocketConsumer):
    def connect(self) -> None:
        self.group = "chat_" + self.scope["url_route"]["kwargs"]["room_name"]
        async_to_sync(self.channel_layer.group_add)(self.group, self.channel_name)
        self.accept()

    def disconnect(self, code: int) -> None:
        async_to_sync(self.channel_layer.group_discard)(self.group, self.channel_name)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        said = json.loads(text_data or "")["message"]
        async_to_sync(self.channel_layer.group_send)(self.group, {"type": "chat.message", "message": said})

    def chat_message(self, event: dict[str, Any]) -> None:
        self.send(text_data=json.dumps({"message": event["message"]}))


class JsonChat(JsonWebsocketConsumer):
    groups = ["chat_lobby"]

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        async_to_sync(self.channel_layer.group_send)("chat_lobby", {"type": "chat.message", **content})

    def chat_message(self, event: dict[str, Any]) -> None:
        self.send_json({"message": event["message"]})


async def main() -> None:
    from channels.testing import WebsocketCommunicator

    client = WebsocketCommunicator(AsyncChat.as_asgi(), "/")
    client.scope["url_route"] = {"kwargs": {"room_name": "lobby"}}
    connected, _ = await client.connect(timeout=10)
    assert connected
    print("joined", flush=True)  # noqa: T201 - printing is the purpose of this process

    async def listen() -> None:
        while True:
            print((await client.receive_json_from(timeout=3600))["message"], flush=True)  # noqa: T201

    listening = asyncio.create_task(listen())
    while line := await asyncio.to_thread(sys.stdin.readline):
        await client.send_json_to({"message": line.strip()})
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


if __name__ == "__main__":
    import django

    django.setup()
    asyncio.run(main())
