"""`channelbox first-password`: the first administrator's name and password, printed once."""

import json as json_format
from typing import Annotated

import typer

from channelbox.cli.errors import CliError
from channelbox.cli.password_generator import generate

NAME = "admin"


def first_password(
    reset: Annotated[
        bool, typer.Option("--reset", help="Give `admin` a new password, even if there is an administrator.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Create the administrator `admin` and print the password, if there is no administrator yet."""
    from channelbox.accounts.models import User

    there = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if there and not reset:
        raise CliError(
            f"There is an administrator already: {there.username}.",
            f"For a new password: `channelbox user password {there.username}` or `channelbox first-password --reset`.",
        )
    password = generate()
    admin, _ = User.objects.get_or_create(username=NAME)
    admin.is_active = admin.is_staff = admin.is_superuser = True
    admin.set_password(password)
    admin.save()
    if json:
        typer.echo(json_format.dumps({"name": NAME, "password": password}))
    else:
        typer.echo(f"Name:     {NAME}\nPassword: {password}")
        typer.echo("The password is not stored in readable form. Note it now, or change it after signing in.", err=True)
