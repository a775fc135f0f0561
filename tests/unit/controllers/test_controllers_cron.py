"""Cron schedules: what they mean, and when they are next due."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from podling.controllers import cron


def _next(schedule: str, after: str, zone: str = "UTC") -> str | None:
    found = cron.parse(schedule).next_after(datetime.fromisoformat(after).replace(tzinfo=UTC), ZoneInfo(zone))
    return found.astimezone(UTC).isoformat() if found else None


@pytest.mark.parametrize(
    ("schedule", "after", "due"),
    [
        ("* * * * *", "2026-01-01T00:00:00", "2026-01-01T00:01:00+00:00"),
        ("*/15 3 * * *", "2026-01-01T03:20:00", "2026-01-01T03:30:00+00:00"),
        ("0 0 29 feb *", "2026-01-01T00:00:00", "2028-02-29T00:00:00+00:00"),
        ("0 9 1 * mon", "2026-01-02T00:00:00", "2026-01-05T09:00:00+00:00"),
        ("@hourly", "2026-01-01T00:59:59", "2026-01-01T01:00:00+00:00"),
        ("0 0 31 2 *", "2026-01-01T00:00:00", None),
        ("@every 1h30m", "2026-01-01T00:10:05", "2026-01-01T01:40:05+00:00"),
        ("@every 10ms", "2026-01-01T00:00:00", "2026-01-01T00:00:01+00:00"),
    ],
)
def test_the_next_time(schedule: str, after: str, due: str | None) -> None:
    assert _next(schedule, after) == due


def test_a_time_that_a_clock_change_skips_does_not_happen() -> None:
    assert _next("30 2 * * *", "2026-03-28T12:00:00", "Europe/Berlin") == "2026-03-30T00:30:00+00:00"


def test_a_time_that_a_clock_change_repeats_happens_twice() -> None:
    assert _next("30 2 * * *", "2026-10-25T00:00:00", "Europe/Berlin") == "2026-10-25T00:30:00+00:00"
    assert _next("30 2 * * *", "2026-10-25T00:30:00", "Europe/Berlin") == "2026-10-25T01:30:00+00:00"
    assert _next("*/20 * * * *", "2026-10-25T00:40:00", "Europe/Berlin") == "2026-10-25T01:00:00+00:00"


@pytest.mark.parametrize("schedule", ["", "* * * *", "* * * * 7", "@Hourly", "60 * * * *", "5-1 * * * *", "x * * * *"])
def test_what_is_no_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(cron.BadSchedule):
        cron.parse(schedule)
