"""Cron schedules: `*/5 * * * *`, names, ranges, lists, `@hourly`, `@every 90s`; and when one is due, in any zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from podling.kinds.validation.cron import problem

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
_EVERY = "@every "
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_HORIZON_DAYS = 366 * 5
"""Days that are searched for the next time: `0 0 29 2 *` may be four years away; `0 0 31 2 *` never comes."""


class BadSchedule(ValueError):
    """The text is no cron schedule."""


@dataclass(frozen=True, slots=True)
class _Field:
    values: frozenset[int]
    starred: bool


@dataclass(frozen=True, slots=True)
class Every:
    """A time after the last one, whatever the clock shows."""

    seconds: int

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime:
        """Whole seconds, as `Schedule.next_after`."""
        return moment.astimezone(zone).replace(microsecond=0) + timedelta(seconds=self.seconds)


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

        A local time that a clock change skips does not happen; one that it repeats happens twice.
        """
        local = moment.astimezone(zone)
        day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        for _ in range(_HORIZON_DAYS):
            following = (day.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=zone)
            if day.month in self.months.values and self._day_matches(day):
                found = self._time_on(day, moment, is_plain=day.utcoffset() == following.utcoffset())
                if found is not None:
                    return found
            day = following
        return None

    def _day_matches(self, day: datetime) -> bool:
        of_month = day.day in self.days.values
        of_week = (day.weekday() + 1) % 7 in self.weekdays.values
        if self.days.starred or self.weekdays.starred:
            return of_month and of_week
        return of_month or of_week

    def _time_on(self, day: datetime, after: datetime, *, is_plain: bool) -> datetime | None:
        """`is_plain`: no clock changes on that day, so that the first that fits is the earliest."""
        times = (
            day.replace(hour=hour, minute=minute, fold=fold)
            for hour in sorted(self.hours.values)
            for minute in sorted(self.minutes.values)
            for fold in ((0,) if is_plain else (0, 1))
        )
        later = (time for time in times if time.timestamp() > after.timestamp() and _exists(time))
        return next(later, None) if is_plain else min(later, key=datetime.timestamp, default=None)


def _exists(local: datetime) -> bool:
    """Whether the wall clock ever shows this time."""
    there_and_back = datetime.fromtimestamp(local.timestamp(), tz=local.tzinfo)
    return (there_and_back.hour, there_and_back.minute) == (local.hour, local.minute)


def parse(text: str) -> Schedule | Every:
    """Raises `BadSchedule`."""
    wrong = problem(text)
    if wrong:
        raise BadSchedule(wrong)
    if text.startswith(_EVERY):
        return Every(max(1, int(_seconds(text.removeprefix(_EVERY)))))
    minutes, hours, days, months, weekdays = _MACROS.get(text, text).split()
    return Schedule(
        minutes=_field(minutes, 0, 59),
        hours=_field(hours, 0, 23),
        days=_field(days, 1, 31),
        months=_field(months, 1, 12, _MONTHS),
        weekdays=_field(weekdays, 0, 6, _DAYS),
    )


def _seconds(duration: str) -> float:
    """Of a Go duration like `1h30m`."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(h|ms|m|us|µs|ns|s)", duration))


def _field(text: str, low: int, high: int, names: tuple[str, ...] = ()) -> _Field:
    parts = [part for part in text.split(",") if part]
    values = frozenset(value for part in parts for value in _values(part, low, high, names))
    return _Field(values, any(part.split("/")[0] in ("*", "?") for part in parts))


def _values(part: str, low: int, high: int, names: tuple[str, ...]) -> range:
    span, slash, step = part.partition("/")
    first_text, dash, last_text = span.partition("-")
    if first_text in ("*", "?"):
        first, last = low, high
    else:
        first = _number(first_text, low, names)
        last = _number(last_text, low, names) if dash else (high if slash else first)
    return range(first, last + 1, int(step) if slash else 1)


def _number(text: str, low: int, names: tuple[str, ...]) -> int:
    return names.index(text.lower()) + low if text.lower() in names else int(text)
