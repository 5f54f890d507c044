"""Test cases for the frames of RFC 6455: what a client sends, and what the server must send back.

The cases follow the Autobahn test suite and use its numbers, so that the two can be compared: sections 1 to 7, 9 and
10. Its sections 9.1 and 9.2 are about large messages in one frame; the sizes that are allowed here are in 1.1 and 1.2,
and a message above 64 KiB is closed with 1009. Its sections 12 and 13 are about compression, which is never negotiated
here. The server echoes messages.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.realtime.serving import FIN, masked

from channelbox.realtime.frame_reader import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

KIB = 1024
GREEK = "Hello-µ@ßöäüàá-UTF-8!!".encode()
KOSME = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
PIECE = b"fragment"


class Case(NamedTuple):
    name: str
    sent: list[bytes]  # each in a write of its own
    expected: list[tuple[int, bytes]]  # opcode and payload, before the end
    code: int | None = None  # of the server's Close; None: it stays open, and answers a Close with 1000


def chopped(data: bytes, size: int = 1) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def fragments(opcode: int, pieces: Iterable[bytes]) -> list[bytes]:
    """Return the frames of one message."""
    pieces = list(pieces)
    return [
        masked(CONTINUATION if at else opcode, piece, FIN if at == len(pieces) - 1 else 0)
        for at, piece in enumerate(pieces)
    ]


def framing() -> Iterator[Case]:
    for section, opcode, letter in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
        for number, size in enumerate((0, 125, 126, 127, 128, 65_535, 65_536), 1):
            payload = letter * size
            yield Case(f"1.{section}.{number}", [masked(opcode, payload)], [(opcode, payload)])
        frame = masked(opcode, letter * 65_536)
        yield Case(f"1.{section}.8", chopped(frame, 997), [(opcode, letter * 65_536)])


def pings() -> Iterator[Case]:
    for number, payload in enumerate((b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125), 1):
        yield Case(f"2.{number}", [masked(PING, payload)], [(PONG, payload)])
    yield Case("2.5", [masked(PING, b"\xfe" * 126)], [], 1002)
    yield Case("2.6", chopped(masked(PING, b"\xfe" * 125)), [(PONG, b"\xfe" * 125)])
    yield Case("2.7", [masked(PONG)], [])
    yield Case("2.8", [masked(PONG, b"unsolicited")], [])
    yield Case("2.9", [masked(PONG, b"unsolicited"), masked(PING, b"ping")], [(PONG, b"ping")])
    ten = [b"payload-%d" % number for number in range(10)]
    yield Case("2.10", [masked(PING, each) for each in ten], [(PONG, each) for each in ten])
    yield Case("2.11", chopped(b"".join(masked(PING, each) for each in ten)), [(PONG, each) for each in ten])


def reserved_bits() -> Iterator[Case]:
    text = masked(TEXT, b"small"), (TEXT, b"small")
    yield Case("3.1", [masked(TEXT, b"small", FIN | 0x10)], [], 1002)
    wrong = masked(TEXT, b"small", FIN | 0x20)
    yield Case("3.2", [text[0] + wrong + masked(PING)], [text[1]], 1002)
    yield Case("3.3", [text[0], masked(TEXT, b"small", FIN | 0x30), masked(PING)], [text[1]], 1002)
    all_of_it = text[0] + masked(TEXT, b"small", FIN | 0x40) + masked(PING)
    yield Case("3.4", chopped(all_of_it), [text[1]], 1002)
    yield Case("3.5", [masked(BINARY, b"\0\xff", FIN | 0x50)], [], 1002)
    yield Case("3.6", [masked(PING, b"small", FIN | 0x60)], [], 1002)
    yield Case("3.7", [masked(CLOSE, b"\x03\xe8", FIN | 0x70)], [], 1002)


def opcodes() -> Iterator[Case]:
    for section, first in ((1, 3), (2, 11)):
        for number in range(1, 6):
            wrong = masked(first + number - 1, b"" if number in (1, 4) else b"payload")
            if number < 3:
                yield Case(f"4.{section}.{number}", [wrong], [], 1002)
            else:
                sent = [masked(TEXT, b"small"), wrong, masked(PING)]
                for name, pieces in (("", sent), ("c", chopped(b"".join(sent)))):
                    yield Case(f"4.{section}.{number}{name}", pieces, [(TEXT, b"small")], 1002)


def fragmentation() -> Iterator[Case]:
    two = fragments(TEXT, [PIECE, PIECE])
    echo = (TEXT, PIECE * 2)
    ping, pong = masked(PING, b"ping"), (PONG, b"ping")
    yield Case("5.1", fragments(PING, [PIECE, PIECE]), [], 1002)
    yield Case("5.2", fragments(PONG, [PIECE, PIECE]), [], 1002)
    yield Case("5.3", [b"".join(two)], [echo])
    yield Case("5.4", two, [echo])
    yield Case("5.5", chopped(b"".join(two)), [echo])
    yield Case("5.6", [two[0] + ping + two[1]], [pong, echo])
    yield Case("5.7", [two[0], ping, two[1]], [pong, echo])
    yield Case("5.8", chopped(two[0] + ping + two[1]), [pong, echo])
    for number, first in ((9, FIN), (12, 0)):
        lost = [masked(CONTINUATION, b"nothing before", first), masked(TEXT, b"text")]
        yield Case(f"5.{number}", [b"".join(lost)], [], 1002)
        yield Case(f"5.{number + 1}", lost, [], 1002)
        yield Case(f"5.{number + 2}", chopped(b"".join(lost)), [], 1002)
    yield Case("5.15", [*two, masked(CONTINUATION, PIECE, 0), masked(TEXT, b"text")], [echo], 1002)
    for number, first in ((16, 0), (17, FIN)):
        yield Case(f"5.{number}", [masked(CONTINUATION, PIECE, first), masked(TEXT, PIECE, 0), two[1]], [], 1002)
    yield Case("5.18", [masked(TEXT, PIECE, 0), masked(TEXT, PIECE)], [], 1002)
    five = fragments(TEXT, [PIECE] * 5)
    sent = [five[0], five[1], ping, five[2], five[3], ping, five[4]]
    yield Case("5.19", [b"".join(sent[:3]), b"".join(sent[3:])], [pong, pong, (TEXT, PIECE * 5)])
    yield Case("5.20", sent, [pong, pong, (TEXT, PIECE * 5)])


VALID = {
    "6.5": [b"\xcf\x83\xce\xbf\xcf\x83", *(KOSME[:end] for end in (2, 5, 7, 9, 11))],
    "6.7": [b"\0", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"],
    "6.9": [b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"],
    "6.11": [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf3\xbf\xbf\xbf", b"\xf0\x90\x80\x80"],
    "6.22": [chr(plane << 16 | low).encode() for plane in range(17) for low in (0xFFFE, 0xFFFF)],
    "6.23": [chr(each).encode() for each in range(0xFFF9, 0x10000)],
}
INVALID = {
    "6.6": [KOSME[:end] for end in (1, 3, 4, 6, 8, 10)],
    "6.8": [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    "6.10": [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
    "6.11 above": [b"\xf4\x90\x80\x80"],
    "6.12": [b"\x80", b"\xbf", *(b"\x80\xbf" * n for n in (1, 2, 3)), b"\x80\xbf\x80", bytes(range(0x80, 0xC0))],
    "6.13": [
        b" ".join(bytes([each]) for each in range(*span)) + b" "
        for span in ((0xC0, 0xE0), (0xE0, 0xF0), (0xF0, 0xF8), (0xF8, 0xFC), (0xFC, 0xFE))
    ],
    "6.14": [
        *(b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80"),
        *(b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"),
    ],
    "6.15": [b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf"],
    "6.16": [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    "6.17": [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"],
    "6.18": [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"],
    "6.19": [b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"],
    "6.20": [
        chr(each).encode(errors="surrogatepass") for each in (0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF)
    ],
    "6.21": [
        (chr(high) + chr(low)).encode(errors="surrogatepass")
        for high in (0xD800, 0xDB7F, 0xDB80, 0xDBFF)
        for low in (0xDC00, 0xDFFF)
    ],
}


def utf8() -> Iterator[Case]:
    yield Case("6.1.1", [masked(TEXT)], [(TEXT, b"")])
    yield Case("6.1.2", fragments(TEXT, [b"", b"", b""]), [(TEXT, b"")])
    yield Case("6.1.3", fragments(TEXT, [b"", b"middle", b""]), [(TEXT, b"middle")])
    yield Case("6.2.1", [masked(TEXT, GREEK)], [(TEXT, GREEK)])
    yield Case("6.2.2", fragments(TEXT, [GREEK[:9], GREEK[9:]]), [(TEXT, GREEK)])
    yield Case("6.2.3", fragments(TEXT, chopped(GREEK)), [(TEXT, GREEK)])
    yield Case("6.2.4", fragments(TEXT, chopped(KOSME)), [(TEXT, KOSME)])
    wrong = KOSME + b"\xed\xa0\x80" + b"edited"
    yield Case("6.3.1", [masked(TEXT, wrong)], [], 1007)
    yield Case("6.3.2", fragments(TEXT, chopped(wrong)), [], 1007)
    # The error is reported before the message is complete
    beyond = [KOSME, b"\xf4\x90\x80\x80", b"edited"]
    yield Case("6.4.1", fragments(TEXT, beyond)[:2], [], 1007)
    yield Case("6.4.2", fragments(TEXT, [beyond[0] + b"\xf4", b"\x90", b"edited"])[:2], [], 1007)
    frame = masked(TEXT, b"".join(beyond))
    yield Case("6.4.3", [frame[: 6 + 15], frame[6 + 15 : 6 + 16]], [], 1007)
    yield Case("6.4.4", chopped(frame)[: 6 + 13], [], 1007)
    for section, texts in VALID.items():
        for number, text in enumerate(texts, 1):
            yield Case(f"{section}.{number}", [masked(TEXT, text)], [(TEXT, text)])
            yield Case(f"{section}.{number}, in fragments", fragments(TEXT, chopped(text)), [(TEXT, text)])
    for section, texts in INVALID.items():
        for number, text in enumerate(texts, 1):
            yield Case(f"{section}.{number}", [masked(TEXT, text)], [], 1007)
            yield Case(f"{section}.{number}, in fragments", fragments(TEXT, chopped(text)), [], 1007)


def closing() -> Iterator[Case]:
    def close(payload: bytes) -> bytes:
        return masked(CLOSE, payload)

    bye = close(b"\x03\xe8")
    yield Case("7.1.1", [masked(TEXT, b"Hello") + bye], [(TEXT, b"Hello")], 1000)
    yield Case("7.1.2", [bye + bye], [], 1000)
    yield Case("7.1.3", [bye + masked(PING)], [], 1000)
    yield Case("7.1.4", [bye + masked(TEXT, b"Hello")], [], 1000)
    between = [masked(TEXT, PIECE, 0), bye, masked(CONTINUATION, PIECE)]
    yield Case("7.1.5", [b"".join(between)], [], 1000)
    yield Case("7.1.5, by frames", between[:2], [], 1000)
    long = masked(TEXT, b"*" * 64 * KIB)
    yield Case("7.1.6", [long + masked(TEXT, b"Hello") + bye], [(TEXT, b"*" * 64 * KIB), (TEXT, b"Hello")], 1000)
    yield Case("7.3.1", [close(b"")], [], 1005)
    yield Case("7.3.2", [close(b"a")], [], 1002)
    yield Case("7.3.3", [bye], [], 1000)
    yield Case("7.3.4", [close(b"\x03\xe8Hello")], [], 1000)
    yield Case("7.3.5", [close(b"\x03\xe8" + b"*" * 123)], [], 1000)
    yield Case("7.3.6", [close(b"\x03\xe8" + b"*" * 124)], [], 1002)
    yield Case("7.5.1", [close(b"\x03\xe8" + KOSME + b"\xed\xa0\x80")], [], 1007)
    for code in (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999):
        yield Case(f"7.7, {code}", [close(code.to_bytes(2, "big"))], [], code)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535):
        yield Case(f"7.9 and 7.13, {code}", [close(code.to_bytes(2, "big"))], [], 1002)
        yield Case(f"7.9 and 7.13, {code} with a reason", [close(code.to_bytes(2, "big") + b"why")], [], 1002)


def limits() -> Iterator[Case]:
    for section, opcode, letter in ((3, TEXT, b"*"), (4, BINARY, b"\xfe")):
        message = letter * 64 * KIB
        for number, size in enumerate((64, 256, 1024, 4096, 16 * KIB, 64 * KIB), 1):
            yield Case(f"9.{section}.{number}", fragments(opcode, chopped(message, size)), [(opcode, message)])
            chops = chopped(masked(opcode, message), size)
            yield Case(f"9.{section + 2}.{number}", chops, [(opcode, message)])
        for number, size in enumerate((0, 16, 64, 256, 1024), 1):
            frame = masked(opcode, letter * size)
            yield Case(f"9.{section + 4}.{number}", [frame] * 100, [(opcode, letter * size)] * 100)
        yield Case(f"9, opcode {opcode}, one byte too many", [masked(opcode, message + b"x")], [], 1009)
        too_many = fragments(opcode, [message[1:], letter, letter])
        yield Case(f"9, opcode {opcode}, one byte too many in fragments", too_many, [], 1009)
    message = b"*" * 64 * KIB
    yield Case("10.1.1", fragments(TEXT, chopped(message, 1300)), [(TEXT, message)])


def unmasked() -> Iterator[Case]:
    """Cases for RFC 6455, 5.1, which the Autobahn suite does not have."""
    yield Case("5.1 of the standard", [b"\x81\x02hi"], [], 1002)
    yield Case("5.1 of the standard, a ping", [b"\x89\x00"], [], 1002)


SECTIONS = (framing, pings, reserved_bits, opcodes, fragmentation, utf8, closing, limits, unmasked)
