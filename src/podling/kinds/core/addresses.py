"""Pools of numbers that services share: cluster addresses and node ports.

One pool lives as long as the registry that it serves. It is filled once from the stored services and then kept up
by allocations and deletions, so that no create has to look at all services.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

Owner = tuple[str, str, str]
"""Namespace, name and uid of the service that holds a number."""


class Taken(Exception):
    """The number belongs to somebody else."""


class OutOfRange(Exception):
    """The pool has no such number."""


class Exhausted(Exception):
    """No number is left."""


@dataclass(slots=True, eq=False)
class Pool:
    """Numbers from `first` to `last`. The `reserved` lowest are given away unasked only when all others are taken,
    so that people who want a certain number find it free."""

    first: int
    last: int
    reserved: int
    holds: Callable[[Owner, int], bool]
    """Whether the stored service still has that number: asked about numbers that an update has given up."""
    source: random.Random = field(default_factory=random.Random)
    _owners: dict[int, Owner] = field(default_factory=dict[int, Owner])
    _leaving: set[int] = field(default_factory=set[int])

    def take(self, number: int, owner: Owner) -> None:
        """Raises OutOfRange and Taken."""
        if not self.first <= number <= self.last:
            raise OutOfRange
        if not self._is_free(number) and self._owners[number] != owner:
            raise Taken
        self._own(number, owner)

    def next(self, owner: Owner) -> int:
        """Any free number, by chance. Raises Exhausted."""
        number = self._search(self.first + self.reserved, self.last)
        if number is None:
            number = self._search(self.first, self.first + self.reserved - 1)
        if number is None:
            raise Exhausted
        self._own(number, owner)
        return number

    def adopt(self, number: int, owner: Owner) -> None:
        """Notes what a stored service holds, be it in the range or not."""
        self._own(number, owner)

    def owner(self, number: int) -> Owner | None:
        return self._owners.get(number)

    def free(self, number: int) -> None:
        self._owners.pop(number, None)
        self._leaving.discard(number)

    def leave(self, number: int) -> None:
        """An update that is not stored yet gives the number up: it is free once the stored service has lost it."""
        if number in self._owners:
            self._leaving.add(number)

    def _own(self, number: int, owner: Owner) -> None:
        self._owners[number] = owner
        self._leaving.discard(number)

    def _search(self, first: int, last: int) -> int | None:
        """From a random start through the whole range: a nearly empty range is done at the first try."""
        size = last - first + 1
        start = self.source.randrange(size) if size > 0 else 0
        for step in range(size):
            number = first + (start + step) % size
            if self._is_free(number):
                return number
        return None

    def _is_free(self, number: int) -> bool:
        owner = self._owners.get(number)
        if owner is None:
            return True
        if number in self._leaving and not self.holds(owner, number):
            self.free(number)
            return True
        return False
