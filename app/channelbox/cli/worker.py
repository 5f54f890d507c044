"""`channelbox worker`: one worker process."""

from typing import Annotated

import typer

from channelbox.cli.errors import give_up


def worker(
    channels: Annotated[
        list[str] | None, typer.Argument(help="Worker channels. Default: chat.ingest, which stores messages.")
    ] = None,
    layer: Annotated[str, typer.Option(help="The channel layer that holds the queues.")] = "work",
) -> None:
    """Process the queues that the web processes fill."""
    from django.core.management import CommandError, call_command

    from channelbox.chat.ingest import INGEST_CHANNEL

    try:
        call_command("runworker", *(channels or [INGEST_CHANNEL]), layer=layer)
    except CommandError as error:
        give_up(str(error))
