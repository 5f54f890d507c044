"""Expected errors of the command, which are reported with a sentence and a remedy instead of a traceback."""

from typing import NoReturn


class CliError(Exception):
    """Ends the command with exit status 1.

    `sentence`: what is wrong. `remedy`: the command or setting that corrects it.
    """

    def __init__(self, sentence: str, remedy: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.sentence}\n  {self.remedy}" if self.remedy else self.sentence


def explain(error: Exception) -> CliError | None:
    """Return the CliError for an error of Django, the database or Redis; None for an unexpected error."""
    if isinstance(error, CliError):
        return error
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import CommandError

    if isinstance(error, CommandError):
        return CliError(str(error))
    if isinstance(error, ImproperlyConfigured):
        return CliError(
            str(error), "Correct it in /etc/channelbox/channelbox.env or in the environment of this command."
        )
    from django.db import DatabaseError, InterfaceError

    if isinstance(error, DatabaseError | InterfaceError):
        text = str(error).strip()
        if "no such table" in text or 'relation "' in text:
            return CliError(
                f"The database has no tables of this version yet: {text.splitlines()[0]}.", "Run: channelbox migrate"
            )
        return CliError(f"Database error: {text}", "For details, run: channelbox check")
    import redis

    if isinstance(error, redis.RedisError):
        return CliError(f"Redis error: {error}", "For details, run: channelbox check")
    return None


def give_up(sentence: str, remedy: str = "") -> NoReturn:
    raise CliError(sentence, remedy)
