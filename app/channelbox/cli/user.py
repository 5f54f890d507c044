"""`channelbox user`: administration of users without a browser and without mail."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from channelbox.cli.errors import CliError
from channelbox.cli.password_generator import generate

if TYPE_CHECKING:
    from channelbox.accounts.models import User

app = typer.Typer(help="Add users, set passwords, deactivate users.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The name that the user signs in with.")]
FromInput = Annotated[
    bool,
    typer.Option(
        "--password-stdin", help="Read the password from standard input instead of generating and printing one."
    ),
]


@app.command()
def add(
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="Make the user an administrator.")] = False,
    password_stdin: FromInput = False,
) -> None:
    """Add a user."""
    from django.core.exceptions import ValidationError

    from channelbox.accounts.models import User

    user = User(username=User.normalize_username(name), is_staff=admin, is_superuser=admin)
    try:
        user.full_clean(exclude=["password"])
    except ValidationError as error:
        raise CliError(f"{name!r}: " + " ".join(error.messages)) from None
    _give_password(user, password_stdin)


@app.command()
def password(name: Name, password_stdin: FromInput = False) -> None:
    """Set a new password for a user. This signs the user out everywhere."""
    _give_password(_find(name), password_stdin)


@app.command()
def deactivate(name: Name) -> None:
    """Deactivate a user immediately. Their messages stay."""
    from channelbox.accounts.models import User

    user = _find(name)
    others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=user.pk)
    if user.is_superuser and not others.exists():
        raise CliError(
            f"{user.username} is the only administrator.", "Add another one first: channelbox user add NAME --admin"
        )
    user.is_active = False
    user.save(update_fields=["is_active"])
    typer.echo(f"{user.username} can no longer sign in.")


@app.command()
def activate(name: Name) -> None:
    """Reactivate a user."""
    user = _find(name)
    user.is_active = True
    user.save(update_fields=["is_active"])
    typer.echo(f"{user.username} can sign in again.")


@app.command(name="list")
def list_() -> None:
    """List all users with name, role and last sign-in."""
    from channelbox.accounts.models import User

    for user in User.objects.order_by("username"):
        role = "administrator" if user.is_superuser else "staff" if user.is_staff else "user"
        role = role if user.is_active else "inactive"
        seen = user.last_login.isoformat(timespec="minutes") if user.last_login else "never signed in"
        typer.echo(f"{user.username}\t{role}\t{seen}")


def _find(name: str) -> "User":
    from channelbox.accounts.models import User

    try:
        return User.objects.get_by_natural_key(name)
    except User.DoesNotExist:
        raise CliError(f"There is no user named {name!r}.", "List all users with: channelbox user list") from None


def _give_password(user: "User", from_input: bool) -> None:
    """Save the user with a new password, and print the password if it was generated."""
    from django.contrib.auth.password_validation import validate_password
    from django.core.exceptions import ValidationError

    if not from_input:
        text = generate()
    else:
        text = sys.stdin.readline().rstrip("\n")
        try:
            validate_password(text, user)
        except ValidationError as error:
            raise CliError("This password is not allowed. " + " ".join(error.messages)) from None
    user.set_password(text)
    user.save()
    if from_input:
        typer.echo(f"The password of {user.username} has been set.")
    else:
        typer.echo(f"Name:     {user.username}\nPassword: {text}")
