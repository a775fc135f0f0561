"""Cron schedules: `*/5 * * * *`, names, ranges, lists, `@hourly`; and when one is next due, in any time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_HORIZON_DAYS = 366 * 5
"""Days that are searched for the next time: `0 0 29 2 *` may be four years away; `0 0 31 2 *` never comes."""


class BadSchedule(ValueError):
    """The text is no cron schedule."""


@dataclass(frozen=True, slots=True)
class _Field:
    values: frozenset[int]
    starred: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """A parsed schedule. Days match by day of month or day of week if both are restricted, else by both."""

    minutes: _Field
    hours: _Field
    days: _Field
    months: _Field
    weekdays: _Field

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The first time after `moment`, aware; `None` if there is none within five years.

        A local time that a clock change skips does not happen; one that it repeats happens once.
        """
        local = moment.astimezone(zone)
        day = local.replace(hour=0, minute=0, second=0, microsecond=0)
        for _ in range(_HORIZON_DAYS):
            if day.month in self.months.values and self._day_matches(day):
                found = self._time_on(day, moment)
                if found is not None:
                    return found
            day = (day.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=zone)
        return None

    def _day_matches(self, day: datetime) -> bool:
        of_month = day.day in self.days.values
        of_week = (day.weekday() + 1) % 7 in self.weekdays.values
        if self.days.starred or self.weekdays.starred:
            return of_month and of_week
        return of_month or of_week

    def _time_on(self, day: datetime, after: datetime) -> datetime | None:
        for hour in sorted(self.hours.values):
            for minute in sorted(self.minutes.values):
                found = day.replace(hour=hour, minute=minute)
                if found.timestamp() > after.timestamp() and _exists(found):
                    return found
        return None


def _exists(local: datetime) -> bool:
    """Whether the wall clock ever shows this time."""
    there_and_back = datetime.fromtimestamp(local.timestamp(), tz=local.tzinfo)
    return (there_and_back.hour, there_and_back.minute) == (local.hour, local.minute)


def parse(text: str) -> Schedule:
    """Raises `BadSchedule`."""
    fields = _MACROS.get(text.strip(), text).split()
    if len(fields) != 5:
        raise BadSchedule(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    return Schedule(
        minutes=_field(fields[0], 0, 59),
        hours=_field(fields[1], 0, 23),
        days=_field(fields[2], 1, 31),
        months=_field(fields[3], 1, 12, _MONTHS),
        weekdays=_field(fields[4], 0, 6, _DAYS),
    )


def _field(text: str, low: int, high: int, names: tuple[str, ...] = ()) -> _Field:
    values: set[int] = set()
    for part in text.split(","):
        values |= _values(part, low, high, names)
    starred = any(part.split("/")[0] in ("*", "?") for part in text.split(","))
    return _Field(frozenset(values), starred)


def _values(part: str, low: int, high: int, names: tuple[str, ...]) -> set[int]:
    span, slash, step_text = part.partition("/")
    step = _number(step_text, 1, high, ()) if slash else 1
    first_text, dash, last_text = span.partition("-")
    if span in ("*", "?"):
        first, last = low, high
    else:
        first = _number(first_text, low, high, names)
        last = _number(last_text, low, high, names) if dash else (high if slash else first)
    if first > last:
        raise BadSchedule(f"beginning of range ({first}) beyond end of range ({last}): {part}")
    return set(range(first, last + 1, step))


def _number(text: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text.lower() in names:
        return names.index(text.lower()) + low
    if not text.isdigit():
        raise BadSchedule(f"failed to parse int from {text}")
    number = 0 if names is _DAYS and text == "7" else int(text)
    if not low <= number <= high:
        raise BadSchedule(f"value {text} is not between {low} and {high}")
    return number
