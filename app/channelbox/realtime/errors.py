"""The close codes and the words for errors: the protocol's vocabulary, in one place (docs/protocol.md)."""

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
    """What went wrong, as a word for programs; the sentence beside it is for people."""

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


INVALID_FORMAT = "Invalid message format"  # the tutorial's words, which its clients look for


class Refused(Exception):
    """Something that a client asked for and does not get. With a close code the connection ends."""

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
            self.frame["retry_after"] = math.ceil(retry_after * 1000) / 1000  # never 0: that were no wait
