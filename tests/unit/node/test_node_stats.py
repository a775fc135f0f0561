"""Rates from counters."""

from __future__ import annotations

from pathlib import Path

from podling.node.stats import (
    ContainerKey,
    Measured,
    PodMetrics,
    Sample,
    machine_usage,
    metrics_between,
    share,
)
from podling.sandbox.cgroups import Usage

APP = ContainerKey("default", "web", "app", "1")
SECOND = 1_000_000_000


def usage(cpu: int, memory: int = 4096) -> Usage:
    return Usage(cpu_nanoseconds=cpu, memory_working_set_bytes=memory, memory_rss_bytes=0, pids=1)


def test_cpu_is_averaged_and_memory_is_the_latest() -> None:
    before = Sample(100, {APP: usage(5 * SECOND)}, 0, 1)
    after = Sample(110, {APP: usage(10 * SECOND, 8192)}, 20 * SECOND, 9000)
    metrics = metrics_between(before, after)
    assert metrics is not None
    assert metrics.pods == [PodMetrics("default", "web", {"app": Measured(SECOND // 2, 8192)})]
    assert metrics.machine == Measured(2 * SECOND, 9000)
    assert (metrics.taken_at, metrics.window) == (110, 10)


def test_a_container_that_has_just_been_restarted_has_no_rate_yet() -> None:
    before = Sample(100, {APP: usage(5 * SECOND)}, 0, 1)
    after = Sample(110, {APP._replace(run="2"): usage(1)}, 0, 1)
    metrics = metrics_between(before, after)
    assert metrics is not None
    assert metrics.pods == []


def test_no_time_is_no_rate() -> None:
    sample = Sample(100, {}, 0, 0)
    assert metrics_between(sample, sample) is None


def test_nodes_of_one_machine_use_their_pods_and_equal_parts_of_the_rest() -> None:
    busy = [PodMetrics("default", "busy", {"app": Measured(700, 300)})]
    lazy = [PodMetrics("default", "lazy", {"app": Measured(100, 100)})]
    machine = Measured(1000, 600)
    neighbours = {"busy": [lazy], "lazy": [busy]}
    used = {"busy": share(machine, busy, neighbours["busy"]), "lazy": share(machine, lazy, neighbours["lazy"])}
    assert used == {"busy": Measured(800, 400), "lazy": Measured(200, 200)}


def test_the_machine_is_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  100 0 50 900 50 0 0 0 0 0\n")
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\n")
    cpu, memory = machine_usage(tmp_path)
    assert cpu == 150 * 10_000_000
    assert memory == 400 * 1024
