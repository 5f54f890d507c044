"""`channelbox restored`: tell the clients of a record that was put back by other means than `channelbox restore`."""

import typer


def restored() -> None:
    """Tell channelbox that its database is an earlier one, e.g. of a snapshot of the whole machine.

    Browsers and programs that are connected then forget the messages that are no longer there. `channelbox restore`
    does so by itself, as does the next start with a PostgreSQL database that was made anew from a backup. Harmless at
    any other time: everybody loads the newest messages again.
    """
    from channelbox.chat.epochs import Installation

    Installation.draw_epoch()
    typer.echo("Every client loads its rooms anew: those that are connected within 10 seconds.")
