"""The outcome of a scenario: its results, and the expectations that were not met."""

from dataclasses import dataclass, field


@dataclass
class Outcome:
    sentences: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def expect(self, met: bool, sentence: str) -> None:
        """Record an expectation that was not met; `make bench-overload` then fails."""
        if not met:
            self.missed.append(sentence)
