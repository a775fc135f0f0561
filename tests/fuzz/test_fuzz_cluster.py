"""The fuzzer and the soak, short: they go on working, and so does what they try."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz import ground as grounds
from fuzz.__main__ import fuzz
from fuzz.soak import soak

pytestmark = pytest.mark.slow


def test_a_cluster_takes_hostile_requests() -> None:
    with grounds.ground() as ground:
        assert fuzz(ground, range(2000), seed=1) == []


def test_reconnecting_watchers_miss_nothing() -> None:
    with grounds.ground() as ground:
        assert asyncio.run(soak(ground, minutes=0.3, seed=1)) == []
