"""Reads what pods say of themselves: Prometheus' text format, and OpenMetrics as far as the two are alike.

Only the series that are wanted are taken apart, so that a long exposition costs little; `prometheus-client`'s parser
makes an object of every line and brings collectors of its own. A line that is not understood is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

Labels = tuple[tuple[str, str], ...]
"""Sorted by name."""

_LINE: Final = re.compile(r"^(?:([A-Za-z_:][A-Za-z0-9_:]*)(?=[ \t{]).*|#[ \t]+TYPE[ \t].*)$", re.MULTILINE)
_LABEL: Final = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ESCAPED: Final = re.compile(r"\\(.)")
_SAMPLE: Final = re.compile(r'([A-Za-z_:][A-Za-z0-9_:]*)[ \t]*(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?[ \t]*(\S+)')
_TYPE: Final = re.compile(r"#[ \t]+TYPE[ \t]+(\S+)[ \t]+(\S+)")
_LONGEST_LINE: Final = 64 << 10
_MOST_SERIES: Final = 2000
"""Of one pod; what is beyond is left out."""
_PARTS: Final = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "summary": ("_count", "_sum"),
}
"""Series that only ever grow, by the type of their family."""


class Series(NamedTuple):
    name: str
    labels: Labels
    value: float
    is_counter: bool
    """It only grows (or begins anew): its rate says something, its value does not."""


@dataclass(frozen=True, slots=True)
class Exposition:
    series: list[Series] = field(default_factory=list[Series])
    counters: frozenset[str] = frozenset()
    """Counters that are declared, also those that count nothing yet and so have no series."""


def parse(text: str, wanted: Iterable[str]) -> Exposition:
    """The series with these names. Never raises."""
    names = frozenset(wanted)
    types: dict[str, str] = {}
    found: list[Series] = []
    for match in _LINE.finditer(text):
        if match[1] is None:
            declared = _TYPE.match(match[0])
            if declared is not None:
                types[declared[1]] = declared[2]
        elif match[1] in names and len(found) < _MOST_SERIES and (series := _sample(match[0], types)) is not None:
            found.append(series)
    counters = {name for name, kind in types.items() if kind == "counter"}
    return Exposition(found, frozenset(counters | {f"{name}_total" for name in counters}))


def _sample(line: str, types: dict[str, str]) -> Series | None:
    match = _SAMPLE.match(line) if len(line) <= _LONGEST_LINE else None
    if match is None:
        return None
    name, labels, number = match.groups()
    try:
        value = float(number)
    except ValueError:
        return None
    if not math.isfinite(value) or "_" in number:
        return None
    pairs = _labels(labels or "")
    return Series(name, pairs, value, _is_counter(name, types)) if pairs is not None else None


def _labels(text: str) -> Labels | None:
    pairs: dict[str, str] = {}
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _LABEL.match(text, at)
        if match is None:
            return None
        pairs[match[1]] = _ESCAPED.sub(lambda m: "\n" if m[1] == "n" else m[1], match[2])
        at = match.end()
    return tuple(sorted(pairs.items()))


def _is_counter(name: str, types: dict[str, str]) -> bool:
    if name in types:
        return types[name] == "counter"
    for suffix in ("_total", "_bucket", "_count", "_sum"):
        family = name.removesuffix(suffix)
        if family != name and family in types:
            return suffix in _PARTS.get(types[family], ())
    return name.endswith("_total")
