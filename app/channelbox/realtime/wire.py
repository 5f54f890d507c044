"""Wire protocol of one WebSocket connection: frames both ways, pings and the closing handshake (RFC 6455, 5 and 7).

What a client sends is handled in bounded slices (`turn_scheduler`), at a rate that counts every byte and every frame,
also the frames that the application does not see (`read_budget`). Anything more stays in the kernel, and TCP has the
sender wait.
"""

import asyncio
import random
import time
from typing import Any

from django.conf import settings
from uvicorn.config import Config

from channelbox.realtime.counters import counters
from channelbox.realtime.errors import Close
from channelbox.realtime.frame_reader import BINARY, CLOSE, PING, PONG, TEXT, Event, FrameReader
from channelbox.realtime.frames import close_payload, frame
from channelbox.realtime.read_budget import SLICE_BYTES, SLICE_FRAMES, Charge, ReadBudget
from channelbox.realtime.receive_queue import ReceiveQueue
from channelbox.realtime.turn_scheduler import count_read, may_read, wait_to_read

MAX_QUEUED = 16  # events that the application has not taken; beyond it, reading stops
CLOSE_SECONDS = 10.0  # to wait for the client's Close after ours
SHORT_CLOSE_SECONDS = 2.0  # the same after a violation and at a restart; also for its FIN after both Closes
SELDOM_SECONDS = 0.1  # a connection last read longer ago waits behind nobody: for most people, always
MAX_SKIPPED_FRAMES = 1000  # after our Close; beyond it, the client's Close is no longer looked for
MAX_SKIPPED_BYTES = 16 * 1024 * 1024  # after our Close; beyond it, reading stops


class Wire(asyncio.Protocol):
    """Reads frames into `_queue`, and writes encoded ones."""

    __slots__ = (
        "_accepted",
        "_budget",
        "_close_sent",
        "_config",
        "_lost",
        "_paused",
        "_pending_close",
        "_ping",
        "_queue",
        "_queue_full",
        "_read_at",
        "_read_turn",
        "_reader",
        "_skipped",
        "_skipped_bytes",
        "_timer",
        "_waiting",
        "charge",
        "loop",
        "transport",
    )

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop or asyncio.get_running_loop()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self._config = config
        self._queue = ReceiveQueue()
        self._accepted = False
        # Payload of a Close that is still to be sent, and whether the client closed first
        self._pending_close: tuple[bytes, bool] | None = None
        self._close_sent = False
        self._lost = False
        self._timer: asyncio.TimerHandle | None = None  # for the next ping, its pong, or the end after a Close
        self._ping = b""  # payload of the ping that is not answered yet
        self._reader: FrameReader | None = None
        self._budget: ReadBudget | None = None
        self.charge: Charge | None = None  # set by the application before it accepts, if any bucket is shared
        self._paused = False  # reading from the transport
        self._waiting = False  # for a turn, or for tokens
        self._queue_full = False  # enough events wait for the application
        self._read_at = 0.0  # time.monotonic()
        self._read_turn = -2  # number of the turn of the loop
        self._skipped = 0  # frames skipped after our Close
        self._skipped_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        # The transport counts what a slow reader has not taken; at the limit it calls `pause_writing`.
        self.transport.set_write_buffer_limits(high=settings.CHANNELBOX_SLOW_READER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._stop_timer()
        self._reader = None
        self._drop_charge()
        self._queue.put_nowait({"type": "websocket.disconnect", "code": 1006})

    def _drop_charge(self) -> None:
        """Drop the references to the application, which refers to this: a cycle waits for the garbage collector."""
        self._budget = self.charge = None

    def eof_received(self) -> None:
        """Do nothing: the transport then closes itself."""

    async def _next_event(self) -> dict[str, Any]:
        """Return the next event from the client, and continue reading when there is room for more."""
        if self._queue_full and not self._queue:
            self._queue_full = False
            self._wait_for_turn()
        event = await self._queue.get()
        if self._pending_close is not None and event["type"] == "websocket.disconnect":
            self._send_pending_close()
        return event

    # --- What the client sends

    def _make_reader(self) -> FrameReader:
        self._reader = FrameReader(self._config.ws_max_size)
        return self._reader

    def data_received(self, data: bytes) -> None:
        if self._close_sent:
            self._skip_to_close(data)
            return
        reader = self._reader or self._make_reader()
        reader.feed(data)
        if not self._accepted:  # our own clients send nothing before the accept
            self._pause_reading()
        elif not (self._waiting or self._queue_full or self._pending_close):
            if may_read(self.loop) or (
                time.monotonic() - self._read_at > SELDOM_SECONDS and may_read(self.loop, self._read_turn)
            ):
                self.take_turn()
            else:
                self._pause_reading()
                self._wait_for_turn()

    def take_turn(self) -> None:
        """Handle one slice of what the client sent."""
        self._waiting = False
        reader = self._reader
        if reader is None or self._pending_close or self._close_sent or self.transport.is_closing():
            return
        if reader.hungry:
            self._resume_reading()
            return
        if len(self._queue) > MAX_QUEUED:
            self._queue_full = True
            self._pause_reading()
            return
        if self._budget is None:
            self._budget = ReadBudget(self.charge)
        if wait := self._budget.wait():
            self._waiting = True
            self._pause_reading()
            self.loop.call_later(wait, self._wait_for_turn, True)
            return
        events, frames, size = reader.read(SLICE_FRAMES, SLICE_BYTES)
        self._budget.spend(frames, size)
        self._read_at = time.monotonic()
        self._read_turn = count_read(self.loop, frames, size)
        if events:
            self._handle(events)
        if reader.violation is not None:
            code, reason = reader.violation.code, reader.violation.reason
            self._close_after_events(code, reason, close_payload(code, reason), by_client=False)
        elif self._pending_close or self._close_sent:
            pass
        elif reader.hungry:
            self._resume_reading()
        else:
            self._pause_reading()
            self._wait_for_turn()

    def _handle(self, events: list[Event]) -> None:
        """Queue what was read for the application, and answer control frames."""
        answers = []
        for opcode, payload in events:
            if opcode == TEXT:
                self._queue.put_nowait({"type": "websocket.receive", "text": payload})
            elif opcode == BINARY:
                self._queue.put_nowait({"type": "websocket.receive", "bytes": payload})
            elif opcode == PING:
                answers.append(frame(PONG, payload))
            elif opcode == PONG:
                if self._ping and payload == self._ping:
                    self._ping = b""
                    self._schedule_ping()
            elif opcode == CLOSE:
                # Echoed (RFC 6455, 5.5.1)
                code = int.from_bytes(payload[:2], "big") if payload else 1005
                self._close_after_events(code, payload[2:].decode(), payload, by_client=True)
        if answers:
            self.write_frames(b"".join(answers))

    def _close_after_events(self, code: int, reason: str, payload: bytes, by_client: bool) -> None:
        """Send a Close once the application has taken the events before it, and so can answer them.

        Send it after SHORT_CLOSE_SECONDS in any case.
        """
        self._pending_close = payload, by_client
        self._queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._pause_reading()
        self._stop_timer()
        self._timer = self.loop.call_later(SHORT_CLOSE_SECONDS, self._send_pending_close)

    def _send_pending_close(self) -> None:
        if self._pending_close is None or self._close_sent or self._lost:
            return
        payload, by_client = self._pending_close
        self.write_frames(frame(CLOSE, payload))
        self._await_close(SHORT_CLOSE_SECONDS, received=by_client)

    def _wait_for_turn(self, tokens: bool = False) -> None:
        """Queue for a turn of this connection. `tokens`: until now it has waited for tokens."""
        if tokens or not self._waiting:
            self._waiting = True
            wait_to_read(self.loop, self)

    def _pause_reading(self) -> None:
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    # --- What the client gets

    def write_frames(self, frames: bytes) -> None:
        """Write whole frames. Never waits and never raises: one lost member must not end a fan-out.

        uvloop raises on a lost transport in the moment before `connection_lost`, and a raw write after a Close frame
        would go out.
        """
        if self._close_sent or self._lost or self.transport.is_closing():
            return
        try:
            self.transport.write(frames)
        except RuntimeError:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Cut off a client that does not read. A Close frame would only queue behind the unread data."""
        if not self._lost:
            counters.slow_closed += 1
            self.transport.abort()

    # --- Pings

    def _schedule_ping(self) -> None:
        self._stop_timer()
        if self._config.ws_ping_interval:
            self._timer = self.loop.call_later(self._config.ws_ping_interval, self._send_ping)

    def _send_ping(self) -> None:
        self._ping = random.getrandbits(32).to_bytes(4, "big")  # unlike the payload of an older or an unsolicited pong
        self.write_frames(frame(PING, self._ping))
        if self._config.ws_ping_timeout:
            self._timer = self.loop.call_later(self._config.ws_ping_timeout, self._pong_timed_out)

    def _pong_timed_out(self) -> None:
        """End the connection at once.

        A client that does not read would keep its slot until the backlog is sent, which is never.
        """
        if self._paused:
            # The pong may be in the data not read yet. If the client is gone, the second write shows it.
            self.write_frames(frame(PING, self._ping))
            self._timer = self.loop.call_later(self._config.ws_ping_timeout or 0, self._pong_timed_out)
            return
        self.write_frames(frame(CLOSE, close_payload(Close.FAILED, "keepalive ping timeout")))
        self._close_sent = True
        self.transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- The end

    def _close(self, code: int, reason: str = "", soon: bool = False) -> None:
        """Send a Close frame, and read on until the client's arrives, for some seconds at most.

        Closing the socket with unread data would reset the connection, and a reset may overtake our Close: the client
        would not see the code. So what it still sends is read and discarded.
        """
        if self._close_sent or self._lost or self.transport.is_closing():
            return
        if self._pending_close is not None:
            self._send_pending_close()
            return
        self._queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.write_frames(frame(CLOSE, close_payload(code, reason)))
        self._await_close(SHORT_CLOSE_SECONDS if soon else CLOSE_SECONDS)

    def _await_close(self, seconds: float, received: bool = False) -> None:
        """After our Close frame, wait for the client's, unless it was `received` before."""
        self._close_sent = True
        self._close_transport_within(seconds)
        if received or (self._reader is not None and self._reader.close_read):
            self._half_close()
            return
        self._resume_reading()
        if self._reader is not None:
            self._skip_to_close(b"")

    def _skip_to_close(self, data: bytes) -> None:
        """Skip what the client sends after our Close, up to its Close. In a flood, not even that is looked for."""
        self._skipped_bytes += len(data)
        if self._skipped_bytes > MAX_SKIPPED_BYTES:
            self._pause_reading()
        if self._skipped >= MAX_SKIPPED_FRAMES:
            return
        reader = self._reader or self._make_reader()
        if data:
            reader.feed(data)
        found, frames = reader.skip(MAX_SKIPPED_FRAMES - self._skipped)
        self._skipped += frames
        if found:
            self._half_close()
        elif self._skipped >= MAX_SKIPPED_FRAMES:
            self._reader = None
            self._close_transport_within(SHORT_CLOSE_SECONDS)

    def _half_close(self) -> None:
        """Half-close, and read on until the client has closed too, for the reason that `_close` gives."""
        self._skipped = MAX_SKIPPED_FRAMES
        self._reader = None
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._close_transport_within(SHORT_CLOSE_SECONDS)
            self._resume_reading()
        else:
            self.transport.close()

    def _close_transport_within(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._close_transport)

    def _close_transport(self) -> None:
        """Close the socket. If the client does not even read what was written, abort it later."""
        self._stop_timer()
        if self.transport.get_write_buffer_size():
            self._timer = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
        self.transport.close()
