"""Reading CHANNELBOX_* variables: typed, with errors that say which variable and what it takes."""

import difflib
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class Setting(NamedTuple):
    """What a variable is when it is not set, and what it takes, in words."""

    default: object
    takes: str


class Environment:
    """The variables that start with a prefix. Each read is remembered, so that what nobody reads is found."""

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
        return self._read(name, default, lambda text: WORDS[text.lower()], "true or false")

    def words(self, name: str, default: list[str] | None = None) -> list[str]:
        """A list, separated by commas."""
        return self._read(name, default or [], lambda text: [w for w in map(str.strip, text.split(",")) if w], "a list")

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        return self._read(name, default, lambda text: choices[choices.index(text)], "one of " + ", ".join(choices))

    def number(self, name: str, default: float, least: float, most: float) -> float:
        def convert(text: str) -> float:
            value = float(text)
            if not least <= value <= most:
                raise ValueError(text)
            return value

        return self._read(name, default, convert, f"a number from {least:g} to {most:g}")

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        def convert(text: str) -> int:
            value = int(text)
            if not least <= value <= most:
                raise ValueError(text)
            return value

        return self._read(name, default, convert, f"a whole number from {least} to {most}")

    def secret(self, name: str, default: str, convert: Callable[[str], T], takes: str) -> T:
        """A value that no message may show, because a password is in it."""
        text = self._read(name, default, str, takes)
        try:
            return convert(text)
        except ValueError:
            raise ImproperlyConfigured(f"{self.prefix}{name} is not valid; it must be {takes}.") from None

    def addresses(self, name: str) -> list[tuple[str, int]]:
        """A list of host:port; an IPv6 address is in brackets."""

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
        """Variables with the prefix that nothing has read, each with the nearest name that there is."""
        strangers = sorted(n for n in self.variables if n.startswith(self.prefix) and n not in self.known)
        return [(n, next(iter(difflib.get_close_matches(n, self.known, 1, 0.7)), None)) for n in strangers]
