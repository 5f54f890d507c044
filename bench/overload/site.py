"""The installation under test: two web processes, two workers, Redis and PostgreSQL."""

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
        """Return the number of a person who is not a bystander, as all connections of a person share its limits."""
        return next(self._people)

    def rooms(self, count: int) -> list[str]:
        """Return names of rooms that do not exist yet."""
        return [f"overload-{next(self._rooms)}" for _ in range(count)]

    def seconds(self, full: float) -> float:
        """Return the duration of a scenario: all of `full`, or a third with `quick`."""
        return full / 3 if self.quick else full

    def people(self, full: int) -> int:
        return full // 5 if self.quick else full
