"""Deadline of a handshake: by then the client has entered, or has been told why not."""

import asyncio
from typing import Any

# From the handshake to the welcome or the refusal. Less than the 10 s after which the clients in clients/ abandon an
# attempt: the rest is for the network and for a load balancer that waits 2 s for a dead node before it tries this one.
ENTER_SECONDS = 7.0


def start_deadline(scope: dict[str, Any], time: float) -> None:
    """Start the deadline at `time`, on the event loop's clock.

    That is when the handshake arrived, which may have waited since then.
    """
    scope["join_deadline"] = time + ENTER_SECONDS


def deadline_of(scope: dict[str, Any]) -> float:
    """Return the deadline of this connection, on the event loop's clock.

    Without `start_deadline`, it runs from the first call of this function.
    """
    deadline: float = scope.setdefault("join_deadline", asyncio.get_running_loop().time() + ENTER_SECONDS)
    return deadline
