"""Close codes and error codes of the protocol (docs/protocol.md)."""

import enum
import math


class Close(enum.IntEnum):
    """WebSocket close codes."""

    NORMAL = 1000
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    INVALID_TEXT = 1007
    TOO_BIG = 1009
    FAILED = 1011
    RESTART = 1012
    TRY_LATER = 1013
    ROOM_FULL = 4000
    SIGN_IN = 4001
    NOT_ALLOWED = 4003
    TOO_MUCH = 4008


class Code(enum.StrEnum):
    """Error codes for programs. The sentence that goes with a code is for people."""

    INVALID = "invalid"
    EMPTY = "empty"
    TOO_LONG = "too_long"
    TOO_BIG = "too_big"
    BAD_ID = "bad_id"
    TOO_FAST = "too_fast"
    TOO_MANY = "too_many"
    QUEUE_FULL = "queue_full"
    NOT_ALLOWED = "not_allowed"
    ORIGIN = "origin"
    NO_ROOM = "no_room"
    NO_MESSAGE = "no_message"
    REMOVED = "removed"
    ROOM_FULL = "room_full"
    SIGN_IN = "sign_in"
    REFUSED = "refused"
    TRY_LATER = "try_later"


INVALID_FORMAT = "Invalid message format"  # the wording of the tutorial, whose clients look for it


class Refused(Exception):
    """Raised when a client's request is refused. With a close code, the connection is closed too.

    `id`: of the message that is refused. `retry_after`: seconds after which the client may try again. `frame` is the
    error as it is sent to the client.
    """

    def __init__(
        self,
        code: Code,
        sentence: str,
        *,
        id: str | None = None,
        retry_after: float | None = None,
        close: Close | None = None,
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.close = close
        self.frame: dict[str, object] = {"error": sentence, "code": str(code)}
        if id is not None:
            self.frame["id"] = id
        if retry_after is not None:
            self.frame["retry_after"] = math.ceil(retry_after * 1000) / 1000  # rounded up, so never 0
