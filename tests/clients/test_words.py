"""The clients' close codes and error words are those of the server."""

import re
from pathlib import Path

from channelbox.realtime.codes import Close, Code
from channelbox_client import connection, outbox

JS = Path(__file__).parents[2] / "clients" / "js"


def test_close_codes() -> None:
    ours = {name: value for name, value in vars(connection).items() if name in Close.__members__}
    (theirs,) = re.findall(r"export const Close = {(.*?)};", (JS / "connection.js").read_text())
    assert ours == {name: int(Close[name]) for name in ours}
    assert {name: int(code) for name, code in re.findall(r"(\w+): (\d+)", theirs)} == ours


def test_error_words() -> None:
    (temporary,) = re.findall(r"const TEMPORARY = \[(.*?)\];", (JS / "outbox.js").read_text())
    assert set(re.findall(r"\w+", temporary)) == outbox.TEMPORARY <= {str(code) for code in Code}
