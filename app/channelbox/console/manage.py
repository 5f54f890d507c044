"""`channelbox manage`: any management command of Django's."""

from typing import Annotated

import typer

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def manage(
    arguments: Annotated[list[str] | None, typer.Argument(help="The command and its arguments.")] = None,
) -> None:
    """Run a Django management command, e.g. `channelbox manage shell`."""
    from django.core.management import ManagementUtility

    ManagementUtility(["channelbox manage", *(arguments or [])]).execute()
