"""The seam for admission: what may change or refuse a write after it was decoded and before it is stored.

A mutating step changes `write.new`; a validating one only looks, at the object as it will be stored. Both refuse by
raising `ApiError`, and may append to `write.warnings`. A step that has to wait (a webhook) returns an awaitable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from podling.api.resources import Write

Step = Callable[[Write], Awaitable[None] | None]


@dataclass(slots=True)
class Admission:
    """The steps in their order; Kubernetes' own order of plugins is that of `AllOrderedPlugins`."""

    mutating: Sequence[Step] = field(default_factory=list[Step])
    validating: Sequence[Step] = field(default_factory=list[Step])
    connecting: Sequence[Step] = field(default_factory=list[Step])
    """What is asked about requests that store nothing: CONNECT, and what is created on an object (an Eviction)."""

    async def mutate(self, write: Write) -> None:
        await _run(self.mutating, write)
        if write.reinvocation.wanted:
            write.reinvocation.again = True
            await _run(self.mutating, write)

    async def validate(self, write: Write) -> None:
        await _run(self.validating, write)

    async def connect(self, write: Write) -> None:
        await _run(self.connecting, write)


async def _run(steps: Sequence[Step], write: Write) -> None:
    for step in steps:
        waiting = step(write)
        if waiting is not None:
            await waiting
