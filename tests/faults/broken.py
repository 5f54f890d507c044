"""Builds that are broken on purpose, one promise each: the verdict must name what they do."""

from collections.abc import Callable


def break_it(word: str) -> None:
    """Breaks this process. Raises KeyError for a word that is none of these."""
    WAYS[word]()


WAYS: dict[str, Callable[[], None]] = {}
