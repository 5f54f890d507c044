"""`channelbox restored`: make clients load their rooms anew after a restore other than `channelbox restore`."""

import typer


def restored() -> None:
    """Tell channelbox that its database was restored by other means, e.g. from a snapshot of the whole machine.

    Connected browsers and programs then discard the messages that no longer exist. `channelbox restore` does this by
    itself, and so does the next start with a PostgreSQL database that was re-created from a backup. It does no harm at
    any other time: everybody loads the newest messages again.
    """
    from channelbox.chat.epochs import Installation

    Installation.draw_epoch()
    typer.echo("All clients reload their rooms; connected clients do so within 10 seconds.")
