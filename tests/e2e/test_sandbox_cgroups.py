"""The unified hierarchy, where the machine has one: also beside v1, where it has no controllers."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from podling.sandbox import cgroups


@pytest.fixture
def groups() -> Generator[cgroups.V2Cgroups]:
    mounted = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    unified = next((Path(words[1]) for words in mounted if words[2] == "cgroup2"), None)
    if unified is None or not os.access(unified, os.W_OK):
        pytest.skip("no unified control groups for this user")
    root = unified / f"podling-test-{os.getpid()}"
    root.mkdir()
    found = cgroups.V2Cgroups(str(root))
    try:
        yield found
    finally:
        assert cgroups.remove_all(found.describe())
        assert not root.exists()


def sleeper(groups: cgroups.Cgroups, group: str) -> int:
    """A process in a group, which is there when this returns."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        groups.join(group)
        os.write(writer, b"!")
        while True:
            signal.pause()
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    return pid


def test_a_group_knows_its_processes_freezes_them_and_goes_when_they_are_gone(groups: cgroups.V2Cgroups):
    groups.create("burstable/pod1/web", {"memory_bytes": 1 << 30, "cpu_millis": 500, "cpu_shares": 512, "pids": 10})
    pid = sleeper(groups, "burstable/pod1/web")
    assert groups.processes("burstable/pod1") == [pid]
    assert groups.freeze("burstable/pod1/web", frozen=True)
    assert not groups.remove("burstable/pod1")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert groups.remove("burstable/pod1")
    assert groups.processes("burstable/pod1") == []


def test_what_is_left_in_a_dead_cluster_is_killed(groups: cgroups.V2Cgroups):
    groups.create("pod2", {})
    pid = sleeper(groups, "pod2")
    groups.freeze("pod2", frozen=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps it, as the machine's init would
    try:
        assert cgroups.remove_all(groups.describe())
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
