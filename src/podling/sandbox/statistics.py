"""What can be seen of a container in /proc, from another process of its node."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from podling.sandbox.cgroups import Usage

_NANOSECONDS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def usage_beside(pid: int) -> Usage | None:
    """The usage of all processes in the PID namespace of `pid`; for machines without control groups.

    Memory is the resident set without shared files, since nothing tells what of them is in active use.
    """
    ticks = memory = count = 0
    for member in processes_beside(pid):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = _read(f"/proc/{member}/stat").rpartition(")")[2].split()
            user, system, children_user, children_system = (int(field) for field in fields[11:15])
            memory += _own_memory(member)
            ticks += user + system + children_user + children_system
            count += 1
    if count == 0:
        return None
    return {
        "cpu_nanoseconds": ticks * _NANOSECONDS_PER_TICK,
        "memory_working_set_bytes": memory,
        "memory_rss_bytes": memory,
        "pids": count,
    }


def memory_by_pid_namespace() -> dict[str, int]:
    """Bytes held by the processes of every PID namespace that can be seen, by the namespace's link in /proc."""
    held: dict[str, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError):
                namespace = os.readlink(f"/proc/{entry}/ns/pid")
                held[namespace] = held.get(namespace, 0) + _own_memory(int(entry))
    return held


def _own_memory(pid: int) -> int:
    resident, shared = (int(field) for field in _read(f"/proc/{pid}/statm").split()[1:3])
    return max(0, resident - shared) * _PAGE


def processes_beside(pid: int) -> Iterator[int]:
    """All processes in the PID namespace of `pid`, itself too; none when it has ended."""
    try:
        wanted = os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{entry}/ns/pid") == wanted:
                    yield int(entry)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
