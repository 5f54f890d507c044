"""`channelbox manage`: any Django management command."""

from typing import Annotated

import typer

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def manage(
    arguments: Annotated[list[str] | None, typer.Argument(help="The command and its arguments.")] = None,
) -> None:
    """Run a Django management command, e.g. `channelbox manage shell`."""
    from django.core.management import ManagementUtility

    if arguments and arguments[0] == "runworker":  # like `channelbox worker`, with the same check of the settings
        import django

        from channelbox.checks import refuse_in_production

        django.setup()
        refuse_in_production()
    ManagementUtility(["channelbox manage", *(arguments or [])]).execute()
