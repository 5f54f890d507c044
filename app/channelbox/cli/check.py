"""`channelbox check`: errors and warnings about this installation, each with its remedy."""

import typer


def check() -> None:
    """Check settings, database and Redis. Exits with status 1 if there is at least one error."""
    from django.conf import settings
    from django.core import checks

    from channelbox.checks import describe

    if not settings.PRODUCTION:
        typer.echo("CHANNELBOX_MODE is development. In production, the result would be:", err=True)
    found = checks.run_checks(include_deployment_checks=True)
    found = sorted((message for message in found if not message.is_silenced()), key=lambda message: -message.level)
    for message in found:
        typer.echo(describe(message), err=True)
    errors = sum(message.level >= checks.ERROR for message in found)
    if errors:
        typer.echo(f"Errors: {errors}. Warnings: {len(found) - errors}.", err=True)
        raise typer.Exit(1)
    typer.echo(f"No errors. Warnings: {len(found)}." if found else "No errors, no warnings.")
