"""Typed access to CHANNELBOX_* variables, with errors that name the variable and the values that it takes."""

import difflib
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class Setting(NamedTuple):
    """A variable's default, and a description in words of the values that it takes."""

    default: object
    takes: str


class Environment:
    """Reader of the variables that start with a prefix.

    Each read is recorded in `known`, so that `unknown` finds the variables that nothing reads. An empty value counts as
    not set. All readers raise ImproperlyConfigured for a value that the variable does not take.
    """

    def __init__(self, prefix: str, variables: Mapping[str, str] = os.environ) -> None:
        self.prefix = prefix
        self.variables = variables
        self.known: dict[str, Setting] = {}

    def _read(self, name: str, default: T, convert: Callable[[str], T], takes: str) -> T:
        self.known[self.prefix + name] = Setting(default, takes)
        text = self.variables.get(self.prefix + name, "").strip()
        if not text:
            return default
        try:
            return convert(text)
        except (ValueError, KeyError) as error:
            raise ImproperlyConfigured(f"{self.prefix}{name} is {text!r}, but must be {takes}.") from error

    def text(self, name: str, default: str = "") -> str:
        return self._read(name, default, str, "text")

    def flag(self, name: str, default: bool) -> bool:
        return self._read(name, default, lambda text: BOOLEANS[text.lower()], "true or false")

    def words(self, name: str, default: list[str] | None = None) -> list[str]:
        """Return a list, which is separated by commas."""
        return self._read(name, default or [], lambda text: [w for w in map(str.strip, text.split(",")) if w], "a list")

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        return self._read(name, default, lambda text: choices[choices.index(text)], "one of " + ", ".join(choices))

    def number(self, name: str, default: float, minimum: float, maximum: float) -> float:
        def convert(text: str) -> float:
            value = float(text)
            if not minimum <= value <= maximum:
                raise ValueError(text)
            return value

        return self._read(name, default, convert, f"a number from {minimum:g} to {maximum:g}")

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        def convert(text: str) -> int:
            value = int(text)
            if not minimum <= value <= maximum:
                raise ValueError(text)
            return value

        return self._read(name, default, convert, f"a whole number from {minimum} to {maximum}")

    def secret(self, name: str, default: str, convert: Callable[[str], T], takes: str) -> T:
        """Return a value that no error message may show, because it contains a password.

        `convert` raises ValueError for a value that is not taken; `takes` says in words which values are.
        """
        text = self._read(name, default, str, takes)
        try:
            return convert(text)
        except ValueError:
            raise ImproperlyConfigured(f"{self.prefix}{name} is not valid; it must be {takes}.") from None

    def addresses(self, name: str) -> list[tuple[str, int]]:
        """Return a list of (host, port), written as host:port; an IPv6 address is in brackets."""

        def convert(text: str) -> list[tuple[str, int]]:
            found = []
            for word in filter(None, map(str.strip, text.split(","))):
                host, _, port = word.rpartition(":")
                if not host:
                    raise ValueError(word)
                found.append((host.strip("[]"), int(port)))
            return found

        return self._read(name, [], convert, "a list of host:port")

    def unknown(self) -> list[tuple[str, str | None]]:
        """Return the variables with the prefix that nothing has read, each with the nearest known name or None."""
        names = sorted(n for n in self.variables if n.startswith(self.prefix) and n not in self.known)
        return [(n, next(iter(difflib.get_close_matches(n, self.known, 1, 0.7)), None)) for n in names]
