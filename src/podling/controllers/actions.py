"""What a controller can decide to do: plain values, each with its reason in words.

`decide` functions return these and do nothing; `Context.act` (runtime.py) carries them out in order. Because an
action says what it would do and why, transcripts of them read as a story, and `podling why` can tell it later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from podling.store.types import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce:
    """An Event about `regarding`. `{name}` in the message is the written object's name, `{error}` the refusal."""

    regarding: Object
    reason: str
    message: str
    type: str = "Normal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    why: str
    resource: str
    object: Object
    subresource: str = ""
    done: Announce | None = None
    failed: Announce | tuple[Announce, ...] | None = None
    """What a refusal is told as; that somebody was faster with the name is none."""
    exists_ok: bool = False
    """Whether an object of that name is as good as a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Replaces an object. With the resourceVersion it was read at, so that a lost race is seen as a conflict."""

    why: str
    resource: str
    object: Object
    subresource: str = ""
    done: Announce | None = None
    failed: Announce | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A JSON merge patch (or a JSON patch, as a list)."""

    why: str
    resource: str
    namespace: str
    name: str
    patch: Object | list[Object]
    subresource: str = ""
    strategic: bool = False
    missing_ok: bool = True
    done: Announce | None = None
    failed: Announce | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Deletes exactly the object that was seen: its uid is a precondition."""

    why: str
    resource: str
    namespace: str
    name: str
    uid: str
    resource_version: str | None = None
    propagation: str | None = None
    grace_seconds: int | None = None
    done: Announce | None = None
    failed: Announce | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Emit:
    """Only tells: an Event without a write."""

    why: str
    event: Announce


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeue:
    """Look again after so many seconds, whatever happens until then."""

    why: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Writes that do not depend on each other, sent at once so that they share one commit.

    With `slow_start` they go in groups of 1, 2, 4, ...: if every one is refused for the same reason (a quota, an
    admission webhook), one refusal is enough to stop instead of a hundred.
    """

    writes: Sequence[Create | Update | Patch | Delete]
    slow_start: bool = False


Write = Create | Update | Patch | Delete
Action = Write | Emit | Requeue | Together
