"""`Room`: a `RoomClient` on asyncio, over the library `websockets`."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from channelbox_client.client import RoomClient
from channelbox_client.effects import Connect, Drop, Effect, Event, Forget, Frame, Refused, Send, State

NO_CLOSE_FRAME = 1006  # RFC 6455: the connection ended without one
DEFAULTS: dict[str, Any] = {"compression": None, "ping_interval": None, "close_timeout": 2, "max_size": None}


class Stopped(Exception):
    """The server rejects this client until a person signs in or is given access."""

    def __init__(self, state: State | None) -> None:
        self.code, self.reason = (state.code, state.reason) if state else (0, "")
        super().__init__(f"closed with {self.code} {self.reason}".strip())


class Room:
    """One person in one room, for as long as `run` runs; connections come and go meanwhile."""

    def __init__(
        self,
        url: str,
        hear: Callable[[Frame], None] | None = None,
        forget: Callable[[], None] | None = None,
        *,
        client: RoomClient | None = None,
        **options: Any,
    ) -> None:
        """Keep each message until it is stored or refused.

        `url`: wss://<host>/ws/chat/<room>/. `hear` is called with each event, in order and once, and may say something
        itself; `forget` when what follows does not continue what was heard. `options` are those of websockets'
        `connect`: the session's cookie is `additional_headers`.
        """
        self.client = client or RoomClient()
        self.refused: list[Refused] = []
        self._url = url
        self._hear = hear
        self._forget = forget
        self._options = {**DEFAULTS, **options}
        self._connection: asyncio.Task[None] | None = None
        self._outgoing: asyncio.Queue[Frame] = asyncio.Queue()
        self._change = asyncio.Event()
        self._effects: deque[Effect] = deque()  # still to be applied
        self._applying = False
        self._stopped: State | None = None
        self._failure: BaseException | None = None  # raised by an overridden method or by `hear`

    # --- Actions of a program

    def say(self, text: str, **options: Any) -> str:
        """Send a message, now or when connected again, and return its id. `options`: see `RoomClient.say`."""
        effects = self.client.say(text, self._now, **options)
        id = self.client.outbox.items[-1].id
        self._apply(effects)
        return id

    def send(self, frame: Frame) -> None:
        """Send a frame that needs no answer, as typing, if this client has joined."""
        if self.client.state == "joined":
            self._apply([Send(frame)])

    def delete(self, seq: int) -> None:
        """Remove the text of a message."""
        self._apply(self.client.delete(seq, self._now))

    @property
    def unanswered(self) -> list[str]:
        """Return the ids of messages that are neither stored nor refused, oldest first."""
        return [item.id for item in self.client.outbox.unanswered]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds for what this client has received."""
        while not condition():
            await self._change.wait()

    async def run(self) -> None:
        """Connect, and again whenever the connection ends, until cancelled. Raises Stopped, and what `hear` raises."""
        self.connect()
        try:
            while self._stopped is None and self._failure is None:
                change, due = self._change, self.client.due
                timeout = None if due is None else max(0.0, due - self._now)
                try:
                    async with asyncio.timeout(timeout):
                        await change.wait()
                except TimeoutError:
                    self._apply(self.client.tick(self._now))
            raise self._failure or Stopped(self._stopped)
        finally:
            connection = self._connection
            self._apply(self.client.leave(self._now))
            if connection is not None:
                await asyncio.gather(connection, return_exceptions=True)

    def connect(self) -> None:
        """Connect at once, without waiting."""
        self._stopped = self._failure = None
        self._apply(self.client.connect(self._now))

    def leave(self) -> None:
        """End the connection until `connect` is called."""
        self._apply(self.client.leave(self._now))

    # --- Hooks, to be overridden

    async def on_frame(self, frame: object) -> None:
        """Handle a frame as it was received."""
        self.take(frame)

    def on_sent(self, frame: Frame) -> None:
        """Handle that a frame was handed to the connection."""

    def on_closed(self, code: int) -> None:
        """Handle that a connection ended that this client did not leave; 1006: without a close frame."""

    def on_effect(self, effect: Effect) -> None:
        """Display an effect of the machine."""
        match effect:
            case Event(event) if self._hear is not None:
                self._hear(event)
            case Forget() if self._forget is not None:
                self._forget()
            case Refused():
                self.refused.append(effect)

    # --- The machine

    def take(self, frame: object) -> None:
        """Pass a frame to the machine."""
        self._apply(self.client.frame(frame, self._now))

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _apply(self, effects: list[Effect]) -> None:
        """Apply effects in order, including those that arise meanwhile. Stops at one that raises."""
        self._effects += effects
        if self._applying or not effects:
            return
        self._applying = True
        try:
            while self._effects:
                self._apply_one(self._effects.popleft())
        finally:
            self._applying = False
            self._effects.clear()
        self._changed()

    def _changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    def _apply_one(self, effect: Effect) -> None:
        match effect:
            case Connect(query):
                self._drop()
                self._connection = asyncio.create_task(self._run_connection(query, self._outgoing))
                self._connection.add_done_callback(self._ended)
            case Drop():
                self._drop()
            case Send(frame):
                self._outgoing.put_nowait(frame)
            case _:
                if isinstance(effect, State) and effect.name == "stopped":
                    self._stopped = effect
                self.on_effect(effect)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._changed()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.cancel()
            self._connection = None
        self._outgoing = asyncio.Queue()  # unsent frames are lost with their connection

    async def _run_connection(self, query: str, outgoing: asyncio.Queue[Frame]) -> None:
        """Serve one connection until it ends."""
        code, reason = NO_CLOSE_FRAME, ""
        try:
            async with connect(self._url + query, **self._options) as socket:
                sending = asyncio.create_task(self._send(socket, outgoing))
                sending.add_done_callback(self._ended)
                try:
                    async for text in socket:
                        if self._connection is not asyncio.current_task():
                            return  # replaced while more frames were already received
                        await self.on_frame(parsed(text))
                except ConnectionClosed:
                    pass
                finally:
                    sending.cancel()
                code, reason = socket.close_code or NO_CLOSE_FRAME, socket.close_reason or ""
        except (OSError, InvalidHandshake, ConnectionClosed, EOFError):
            pass
        if self._connection is asyncio.current_task():
            self.on_closed(code)
            self._apply(self.client.closed(code, reason, self._now))

    async def _send(self, socket: ClientConnection, outgoing: asyncio.Queue[Frame]) -> None:
        while True:
            frame = await outgoing.get()
            self.on_sent(frame)
            try:
                await socket.send(json.dumps(frame))
            except ConnectionClosed:
                return


def parsed(text: str | bytes) -> object:
    """Parse a frame; None: it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None
