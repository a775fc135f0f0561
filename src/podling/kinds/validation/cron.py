"""Whether a cron schedule is well formed, in the words of the parser that Kubernetes uses (robfig/cron)."""

from __future__ import annotations

import re
import zoneinfo
from typing import Final

_DESCRIPTORS: Final = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_MONTHS: Final[dict[str, int]] = {
    "jan": 1,
    "feb": 2,
    "mar": 3,
    "apr": 4,
    "may": 5,
    "jun": 6,
    "jul": 7,
    "aug": 8,
    "sep": 9,
    "oct": 10,
    "nov": 11,
    "dec": 12,
}
_DAYS: Final[dict[str, int]] = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_FIELDS: Final[tuple[tuple[int, int, dict[str, int]], ...]] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_DURATION: Final = r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)"


class _Malformed(Exception):
    pass


def problem(schedule: str) -> str:
    """What is wrong with a schedule; `""` for a good one."""
    if not schedule:
        return "empty spec string"
    if schedule.startswith(("TZ=", "CRON_TZ=")):
        zone, _, schedule = schedule.partition(" ")
        zone = zone.partition("=")[2]
        if zone and not known_zone(zone):
            return f"provided bad location {zone}: unknown time zone {zone}"
        schedule = schedule.strip()
    if schedule.startswith("@"):
        return _descriptor(schedule)
    parts = schedule.split()
    if len(parts) != len(_FIELDS):
        return f"expected exactly {len(_FIELDS)} fields, found {len(parts)}: [{' '.join(parts)}]"
    try:
        for part, bounds in zip(parts, _FIELDS, strict=True):
            for expression in filter(None, part.split(",")):
                _check(expression, *bounds)
    except _Malformed as malformed:
        return str(malformed)
    return ""


def known_zone(zone: str) -> bool:
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _descriptor(text: str) -> str:
    if text in _DESCRIPTORS:
        return ""
    if not text.startswith("@every "):
        return f"unrecognized descriptor: {text}"
    length = text.removeprefix("@every ")
    if re.fullmatch(f"({_DURATION})+|0", length):
        return ""
    return f'failed to parse duration {text}: time: invalid duration "{length}"'


def _check(expression: str, least: int, most: int, names: dict[str, int]) -> None:
    """One `a-b/step`; each part but the first may be missing."""
    span, *steps = expression.split("/")
    first, *rest = span.split("-")
    if first in ("*", "?"):
        start, end = least, most
    else:
        start = _number(first, names)
        if len(rest) > 1:
            raise _Malformed(f"too many hyphens: {expression}")
        end = _number(rest[0], names) if rest else start
    if len(steps) > 1:
        raise _Malformed(f"too many slashes: {expression}")
    step = _number(steps[0], {}) if steps else 1
    if steps and not rest and first not in ("*", "?"):
        end = most
    if start < least:
        raise _Malformed(f"beginning of range ({start}) below minimum ({least}): {expression}")
    if end > most:
        raise _Malformed(f"end of range ({end}) above maximum ({most}): {expression}")
    if start > end:
        raise _Malformed(f"beginning of range ({start}) beyond end of range ({end}): {expression}")
    if step == 0:
        raise _Malformed(f"step of range should be a positive number: {expression}")


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not re.fullmatch(r"[-+]?\d+", text, re.ASCII):
        raise _Malformed(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    number = int(text)
    if number < 0:
        raise _Malformed(f"negative number ({number}) not allowed: {text}")
    return number
