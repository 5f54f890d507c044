"""The clients' close codes, error codes and timeouts match those of the server and its document."""

import re
from pathlib import Path

from channelbox.realtime.errors import Close, Code
from channelbox.realtime.join_deadline import ENTER_SECONDS
from channelbox_client import connection, outbox

ROOT = Path(__file__).parents[2]
JS = ROOT / "clients" / "js"
NETWORK_SECONDS = 3  # for a handshake to reach the process, past a dead node (2 s), and for the response to come back


def test_close_codes_match_the_server() -> None:
    ours = {name: value for name, value in vars(connection).items() if name in Close.__members__}
    (theirs,) = re.findall(r"export const Close = {(.*?)};", (JS / "connection.js").read_text())
    assert ours == {name: int(Close[name]) for name in ours}
    assert {name: int(code) for name, code in re.findall(r"(\w+): (\d+)", theirs)} == ours


def test_temporary_errors_match_the_server() -> None:
    (temporary,) = re.findall(r"const TEMPORARY = \[(.*?)\];", (JS / "outbox.js").read_text())
    assert set(re.findall(r"\w+", temporary)) == outbox.TEMPORARY <= {str(code) for code in Code}


def test_the_server_answers_a_handshake_before_its_client_gives_up() -> None:
    (theirs,) = re.findall(r"const OPENING_TIMEOUT = (\d+);", (JS / "connection.js").read_text())
    assert float(theirs) == connection.OPENING_TIMEOUT
    assert ENTER_SECONDS + NETWORK_SECONDS <= connection.OPENING_TIMEOUT
    document = (ROOT / "docs" / "protocol.md").read_text()
    assert f"within {ENTER_SECONDS:g} s of the handshake" in document
    assert f"gives up after {connection.OPENING_TIMEOUT:g} s without a `welcome`" in document
