"""What came of a scenario, and what of it is not as it has to be."""

from dataclasses import dataclass, field


@dataclass
class Outcome:
    sentences: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def expect(self, true: bool, words: str) -> None:
        """Notes what had to be, where it is not: `make bench-overload` ends with an error then."""
        if not true:
            self.missed.append(words)
