"""How long ago something was, as kubectl's tables say it (k8s.io/apimachinery/pkg/util/duration)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from podling.api.meta import metadata, parse_time
from podling.store.types import Object

UNKNOWN: Final = "<unknown>"


def age(obj: Object, now: datetime) -> str:
    return since(metadata(obj).get("creationTimestamp"), now)


def since(moment: str | None, now: datetime) -> str:
    """How long ago, as people say it; `<unknown>` for no time."""
    return duration((now - parse_time(moment)).total_seconds()) if moment else UNKNOWN


def duration(length: float) -> str:
    """Two units at most, and only one where more would not matter (`duration.HumanDuration`)."""
    seconds = int(length)
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    minutes, hours = seconds // 60, seconds // 3600
    if seconds < 2 * 60:
        return f"{seconds}s"
    if minutes < 10:
        return _pair(minutes, "m", seconds % 60, "s")
    if minutes < 3 * 60:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 2 * 24:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _pair(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    return _pair(days // 365, "y", days % 365, "d") if days < 8 * 365 else f"{days // 365}y"


def _pair(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"
