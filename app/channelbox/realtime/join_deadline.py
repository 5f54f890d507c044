"""The one deadline of a handshake: by then its client is in, or knows why not."""

import asyncio
from typing import Any

# From the handshake to the welcome or to the refusal. Less than the 10 s after which the clients of clients/ give an
# attempt up: the rest is for the network and for a balancer that waits 2 s for a dead node before it asks this one.
ENTER_SECONDS = 7.0


def asked_at(scope: dict[str, Any], time: float) -> None:
    """Have the deadline run from this time of the loop's clock, when the handshake came: it may have waited since."""
    scope["enter_by"] = time + ENTER_SECONDS


def enter_by(scope: dict[str, Any]) -> float:
    """Return the deadline of this connection, on the loop's clock; without `asked_at` it runs from the first call."""
    deadline: float = scope.setdefault("enter_by", asyncio.get_running_loop().time() + ENTER_SECONDS)
    return deadline
