"""Exponential back-off as the kubelet counts it (client-go's flowcontrol.Backoff): pure, the caller keeps the state.

A container that ends is started again at once the first time; each further time it waits for twice as long after its
end, from 10 s up to 5 minutes. A run of more than 10 minutes is forgiven: the count begins anew.
"""

from __future__ import annotations

from typing import NamedTuple

INITIAL = 10.0
MAXIMUM = 300.0
FORGIVEN_AFTER = 2 * MAXIMUM


class Backoff(NamedTuple):
    """`delay` is the wait that applies now, 0 before the first attempt; `updated` when it was set. Seconds."""

    delay: float = 0.0
    updated: float = 0.0


NONE = Backoff()


def until(backoff: Backoff, event: float) -> float:
    """When the next attempt may be made after what happened at `event`; not later than `event` if at once."""
    if not backoff.delay or event - backoff.updated > FORGIVEN_AFTER:
        return event
    return event + backoff.delay


def after_attempt(backoff: Backoff, event: float, now: float) -> Backoff:
    """The back-off once an attempt is made at `now` because of what happened at `event`."""
    if not backoff.delay or event - backoff.updated > FORGIVEN_AFTER:
        return Backoff(INITIAL, now)
    return Backoff(min(backoff.delay * 2, MAXIMUM), now)
