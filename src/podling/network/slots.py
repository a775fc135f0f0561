"""Which backend each slot of a service's map leads to.

A service's rule in the kernel never changes: it draws a slot number and looks the backend up in a map. So that an
endpoint change moves as little traffic as possible, a new map differs from the old one in as few slots as it can
while every backend holds its fair share. Pure: what to write into the kernel is decided in `services`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

SMALLEST = 60
"""Divisible by 1 to 6, 10 and 12: those numbers of backends share exactly."""

GROWTH = 4
LEAST_SHARE = 5
"""A backend holds at least so many slots, so that no backend gets more than a fifth above another."""

LARGEST = SMALLEST * GROWTH**5


class Backend(NamedTuple):
    """Where a connection may go."""

    ip: str
    port: int


def size_for(backends: int, current: int = 0) -> int:
    """The number of slots for so many backends; never less than `current`, since a change of size moves all traffic
    to a new chain. Every size is a multiple of the one below, so a client's hash keeps its backend when a map grows.
    """
    size = max(SMALLEST, current)
    while size < backends * LEAST_SHARE and size < LARGEST:
        size *= GROWTH
    return size


def assign(old: Sequence[Backend], backends: Sequence[Backend], size: int) -> list[Backend]:
    """The map of `size` slots over `backends` (not empty, none twice) that is nearest to `old`.

    `old` may be empty or, when the map grows, shorter: it then counts as repeated. Shares differ by one at most.
    Slots move only from a backend that left, or that holds more than its share, to one that holds less.
    """
    held = [old[i % len(old)] for i in range(size)] if old else []
    shares = _shares(held, backends, size)
    remaining = dict(shares)
    slots: list[Backend | None] = [None] * size
    for i, backend in enumerate(held):
        if remaining.get(backend, 0) > 0:
            remaining[backend] -= 1
            slots[i] = backend
    waiting = _interleaved(remaining, backends)
    return [slot if slot is not None else next(waiting) for slot in slots]


def changed(old: Sequence[Backend], new: Sequence[Backend]) -> list[int]:
    """The numbers of the slots that differ; both maps have one size."""
    return [i for i, (before, after) in enumerate(zip(old, new, strict=True)) if before != after]


def _shares(held: Sequence[Backend], backends: Sequence[Backend], size: int) -> dict[Backend, int]:
    """How many slots each backend is to hold. The odd slots stay with those that hold most now, which moves least."""
    count = Counter(held)
    base, odd = divmod(size, len(backends))
    by_holding = sorted(range(len(backends)), key=lambda i: (-count[backends[i]], i))
    favoured = {backends[i] for i in by_holding[:odd]}
    return {backend: base + (backend in favoured) for backend in backends}


def _interleaved(remaining: dict[Backend, int], backends: Sequence[Backend]) -> Iterator[Backend]:
    """The backends in turn, each as often as it still needs a slot."""
    left = dict(remaining)
    while any(left.values()):
        for backend in backends:
            if left[backend] > 0:
                left[backend] -= 1
                yield backend
