"""A channelbox under test, as it is installed: two web processes, two workers, Redis, PostgreSQL."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bench.generator import Address
from bench.overload.bystanders import SIZE
from bench.peers.channelbox import Channelbox


@dataclass
class Site:
    channelbox: Channelbox
    quick: bool
    _rooms: Iterator[int] = field(default_factory=itertools.count)
    _people: Iterator[int] = field(default_factory=lambda: itertools.count(SIZE))

    @property
    def address(self) -> Address:
        return self.channelbox.address

    def processes(self) -> Mapping[str, int]:
        return {child.name: child.pid for child in self.channelbox.local.children if child.pid is not None}

    def person(self) -> int:
        """The number of somebody who is none of the bystanders: limits hold for a person's connections together."""
        return next(self._people)

    def rooms(self, count: int) -> list[str]:
        """Names that nobody has used."""
        return [f"overload-{next(self._rooms)}" for _ in range(count)]

    def seconds(self, full: float) -> float:
        """How long a scenario lasts."""
        return full / 3 if self.quick else full

    def people(self, full: int) -> int:
        return full // 5 if self.quick else full
