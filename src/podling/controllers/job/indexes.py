"""Sets of completion indexes as text: `0,2-4`."""

from __future__ import annotations

from collections.abc import Iterable

from podling.api import meta
from podling.store.types import Object

INDEX = "batch.kubernetes.io/job-completion-index"


def parse(text: str, total: int | None = None) -> set[int]:
    """Those below `total`, if that is known."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        end = int(last or first) + 1
        found.update(range(int(first), end if total is None else min(end, total)))
    return found


def render(indexes: Iterable[int]) -> str:
    ranges: list[list[int]] = []
    for index in sorted(set(indexes)):
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(_range(first, last) for first, last in ranges)


def _range(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first},{last}" if last == first + 1 else f"{first}-{last}"


def index_of(pod: Object) -> int | None:
    text = meta.annotations(pod).get(INDEX, "")
    return int(text) if text.isdigit() else None
