"""`channelbox check`: what is wrong with this installation, each with its remedy."""

import typer


def check() -> None:
    """Check settings, database and Redis. Exit status 1 with at least one error."""
    from django.core import checks

    found = checks.run_checks(include_deployment_checks=True, databases=["default"])
    found = [message for message in found if not message.is_silenced()]
    for message in sorted(found, key=lambda message: -message.level):
        typer.echo(f"{message.id}: {message.msg}" + (f"\n  {message.hint}" if message.hint else ""), err=True)
    errors = sum(message.level >= checks.ERROR for message in found)
    if errors:
        typer.echo(f"{errors} errors, {len(found) - errors} warnings.", err=True)
        raise typer.Exit(1)
    typer.echo(f"No errors, {len(found)} warnings." if found else "All is well.")
