"""Control groups: limits, usage, freezing and killing, on whatever the machine offers.

Three situations: cgroup v1 hierarchies (root only), the unified hierarchy (as root, or below a subtree that was
delegated to the user), or nothing. Which controllers there are is found by looking and by trying, not by version.
Group names are relative to the cluster's own group, such as `burstable/pod<uid>/<container>`; everything below that is
ours, and `remove_all` leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Protocol, TypedDict

from podling.sandbox.spec import Limits
from podling.sandbox.syscalls import write_file

_V1_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "freezer")
_V2_CONTROLLERS = ("cpu", "memory", "pids")
_CPU_PERIOD = 100_000
_MINIMUM_QUOTA = 1_000
_NANOSECONDS_PER_MICROSECOND = 1_000


class Usage(TypedDict):
    """What a group uses, as the kubelet's stats report it."""

    cpu_nanoseconds: int
    memory_working_set_bytes: int
    memory_rss_bytes: int
    pids: int


class Description(TypedDict):
    """How to find the groups of a cluster again from another process: JSON-ready."""

    version: int
    """1, 2, or 0 for none."""
    roots: dict[str, str]
    """v1: directory of the cluster's group by controller. v2: the same under the name `unified`."""


class Cgroups(Protocol):
    """The groups of one cluster."""

    def describe(self) -> Description: ...

    def create(self, group: str, limits: Limits) -> None:
        """Make a group with its parents. What the machine cannot limit stays unlimited."""
        ...

    def update(self, group: str, limits: Limits) -> None:
        """Give a group other limits; those that are not named stay. Raises `OSError` EBUSY below current use."""
        ...

    def join(self, group: str) -> None:
        """Move the calling process into a group."""
        ...

    def remove(self, group: str) -> bool:
        """Remove a group that has no processes, with the groups below it; False when something still runs there."""
        ...

    def processes(self, group: str) -> list[int]: ...

    def freeze(self, group: str, frozen: bool) -> bool:
        """Stop or continue everything in a group; False when the machine cannot do that."""
        ...

    def thaw(self) -> None:
        """Continue what cannot even be killed while it is frozen."""
        ...

    def usage(self, group: str) -> Usage | None: ...

    def oom_kills(self, group: str) -> int: ...

    def limits_memory(self) -> bool:
        """Whether the kernel holds groups to their memory limits."""
        ...


def detect(cluster: str, *, mounts: str = "/proc/self/mountinfo", own: str = "/proc/self/cgroup") -> Cgroups:
    """The best that this process may use: unified, v1, none. Makes the cluster's group."""
    v1, unified = _mounted(mounts)
    groups = _own_groups(own)
    if "memory" in v1:
        roots = {name: _below(v1[name], groups.get(name, "/"), cluster) for name in _V1_CONTROLLERS if name in v1}
        with contextlib.suppress(OSError):
            for root in roots.values():
                _make_own(root)
            return V1Cgroups(roots)
    elif unified is not None:
        root = _below(unified, groups.get("", "/"), cluster)
        with contextlib.suppress(OSError):
            _make_own(root)
            found = V2Cgroups(root)
            found.prepare()
            return found
    return NoCgroups()


def _make_own(root: str) -> None:
    """Makes a group, or finds it there and ours. Raises `OSError` where it belongs to somebody else."""
    os.makedirs(root, exist_ok=True)
    if not os.access(root, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), root)


def reopen(description: Description) -> Cgroups:
    """The groups that another process described."""
    if description["version"] == 1:
        return V1Cgroups(description["roots"])
    if description["version"] == 2:
        return V2Cgroups(description["roots"]["unified"])
    return NoCgroups()


def remove_all(description: Description, *, patience: float = 5.0) -> bool:
    """Kill what is left in the cluster's groups and remove them; False when that took longer than `patience` s.

    Only for the end of a cluster: nothing tells when a group is empty, so this tries until it is.
    """
    groups = reopen(description)
    deadline = time.monotonic() + patience
    while not groups.remove(""):
        for pid in groups.processes(""):
            if pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        groups.thaw()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class NoCgroups:
    """A machine, or a user, without control groups: nothing is limited."""

    def describe(self) -> Description:
        return {"version": 0, "roots": {}}

    def create(self, group: str, limits: Limits) -> None:
        del group, limits

    def update(self, group: str, limits: Limits) -> None:
        del group, limits

    def join(self, group: str) -> None:
        del group

    def remove(self, group: str) -> bool:
        del group
        return True

    def processes(self, group: str) -> list[int]:
        del group
        return []

    def freeze(self, group: str, frozen: bool) -> bool:
        del group, frozen
        return False

    def thaw(self) -> None:
        pass

    def usage(self, group: str) -> Usage | None:
        del group
        return None

    def oom_kills(self, group: str) -> int:
        del group
        return 0

    def limits_memory(self) -> bool:
        return False


class V1Cgroups:
    """One hierarchy per controller."""

    def __init__(self, roots: Mapping[str, str]) -> None:
        self._roots = dict(roots)

    def describe(self) -> Description:
        return {"version": 1, "roots": self._roots}

    def create(self, group: str, limits: Limits) -> None:
        for path in self._paths(group):
            os.makedirs(path, exist_ok=True)
        self.update(group, limits)

    def update(self, group: str, limits: Limits) -> None:
        for controller, file, value in _v1_settings(limits):
            if controller in self._roots:
                write_file(f"{self._path(controller, group)}/{file}", value)

    def join(self, group: str) -> None:
        for path in self._paths(group):
            write_file(f"{path}/cgroup.procs", "0")

    def remove(self, group: str) -> bool:
        busy = [path for path in self._paths(group) if not _remove_tree(path)]
        return not busy

    def processes(self, group: str) -> list[int]:
        return sorted({pid for path in self._paths(group) for pid in _processes(path)})

    def freeze(self, group: str, frozen: bool) -> bool:
        if "freezer" not in self._roots:
            return False
        write_file(f"{self._path('freezer', group)}/freezer.state", "FROZEN" if frozen else "THAWED")
        return True

    def thaw(self) -> None:
        for path in _walk(self._path("freezer", "")) if "freezer" in self._roots else ():
            with contextlib.suppress(OSError):
                write_file(f"{path}/freezer.state", "THAWED")

    def usage(self, group: str) -> Usage | None:
        with contextlib.suppress(OSError):
            memory = self._path("memory", group)
            statistics = _table(f"{memory}/memory.stat")
            used = int(_read(f"{memory}/memory.usage_in_bytes"))
            return {
                "cpu_nanoseconds": int(_read(f"{self._path('cpuacct', group)}/cpuacct.usage")),
                "memory_working_set_bytes": max(0, used - statistics.get("total_inactive_file", 0)),
                "memory_rss_bytes": statistics.get("total_rss", 0),
                "pids": len(self.processes(group)),
            }
        return None

    def oom_kills(self, group: str) -> int:
        with contextlib.suppress(OSError, KeyError):
            return _table(f"{self._path('memory', group)}/memory.oom_control").get("oom_kill", 0)
        return 0

    def limits_memory(self) -> bool:
        return "memory" in self._roots

    def _path(self, controller: str, group: str) -> str:
        return f"{self._roots[controller]}/{group}".rstrip("/")

    def _paths(self, group: str) -> Iterator[str]:
        for controller in self._roots:
            yield self._path(controller, group)


class V2Cgroups:
    """The unified hierarchy; with the controllers that could be switched on for us, perhaps none."""

    def __init__(self, root: str) -> None:
        self._root = root

    def prepare(self) -> None:
        """Switch on the controllers from our parent downwards.

        A group with processes of its own may not hand out controllers (the machine's root may). Where we are alone in
        the parent, as in a scope that was made for us, we move into a leaf beside the cluster's group.
        """
        parent = os.path.dirname(self._root)
        if not _enable_controllers(parent) and _alone_in(parent):
            leaf = f"{self._root}.helper"
            os.makedirs(leaf, exist_ok=True)
            for pid in _members(parent):
                with contextlib.suppress(ProcessLookupError):
                    write_file(f"{leaf}/cgroup.procs", str(pid))
            _enable_controllers(parent)
        _enable_controllers(self._root)

    def describe(self) -> Description:
        return {"version": 2, "roots": {"unified": self._root}}

    def create(self, group: str, limits: Limits) -> None:
        path = self._root
        for part in group.split("/"):
            path = f"{path}/{part}"
            if not os.path.isdir(path):
                _enable_controllers(os.path.dirname(path))
                os.mkdir(path)
        self.update(group, limits)

    def update(self, group: str, limits: Limits) -> None:
        path = self._path(group)
        memory = limits.get("memory_bytes")
        if memory is not None and memory < self._held(path):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))  # the kernel would kill for it
        for file, value in _v2_settings(limits):
            with contextlib.suppress(FileNotFoundError, PermissionError):  # the controller is not ours
                write_file(f"{path}/{file}", value)

    def join(self, group: str) -> None:
        write_file(f"{self._path(group)}/cgroup.procs", "0")

    def remove(self, group: str) -> bool:
        return _remove_tree(self._path(group))

    def processes(self, group: str) -> list[int]:
        return sorted(_processes(self._path(group)))

    def _held(self, path: str) -> int:
        """Bytes that cannot be reclaimed; 0 where the controller is not ours."""
        with contextlib.suppress(OSError):
            return int(_read(f"{path}/memory.current")) - _table(f"{path}/memory.stat").get("inactive_file", 0)
        return 0

    def freeze(self, group: str, frozen: bool) -> bool:
        write_file(f"{self._path(group)}/cgroup.freeze", "1" if frozen else "0")
        return True

    def thaw(self) -> None:
        """Version 2 lets SIGKILL through."""

    def usage(self, group: str) -> Usage | None:
        path = self._path(group)
        with contextlib.suppress(OSError):
            cpu = _table(f"{path}/cpu.stat")["usage_usec"] * _NANOSECONDS_PER_MICROSECOND
            statistics = _table(f"{path}/memory.stat")
            used = int(_read(f"{path}/memory.current"))
            return {
                "cpu_nanoseconds": cpu,
                "memory_working_set_bytes": max(0, used - statistics.get("inactive_file", 0)),
                "memory_rss_bytes": statistics.get("anon", 0),
                "pids": len(self.processes(group)),
            }
        return None

    def oom_kills(self, group: str) -> int:
        with contextlib.suppress(OSError):
            return _table(f"{self._path(group)}/memory.events").get("oom_kill", 0)
        return 0

    def limits_memory(self) -> bool:
        return "memory" in _read(f"{self._root}/cgroup.subtree_control").split()

    def _path(self, group: str) -> str:
        return f"{self._root}/{group}".rstrip("/")


def _v1_settings(limits: Limits) -> Iterator[tuple[str, str, str]]:
    """(controller, file, value) in the order in which they must be written."""
    if "cpu_shares" in limits:
        yield "cpu", "cpu.shares", str(max(2, limits["cpu_shares"]))
    if "cpu_millis" in limits:
        yield "cpu", "cpu.cfs_period_us", str(_CPU_PERIOD)
        yield "cpu", "cpu.cfs_quota_us", str(_quota(limits["cpu_millis"]))
    if "memory_bytes" in limits:
        yield "memory", "memory.limit_in_bytes", str(limits["memory_bytes"])
    if "pids" in limits:
        yield "pids", "pids.max", str(limits["pids"])


def _v2_settings(limits: Limits) -> Iterator[tuple[str, str]]:
    if "cpu_shares" in limits:
        yield "cpu.weight", str(weight_of_shares(limits["cpu_shares"]))
    if "cpu_millis" in limits:
        yield "cpu.max", f"{_quota(limits['cpu_millis'])} {_CPU_PERIOD}"
    if "memory_bytes" in limits:
        yield "memory.max", str(limits["memory_bytes"])
        yield "memory.oom.group", "1"
    if "pids" in limits:
        yield "pids.max", str(limits["pids"])


def weight_of_shares(shares: int) -> int:
    """cgroup v1 shares (2..262144) as a v2 weight (1..10000), by the kubelet's formula."""
    return 1 + ((max(2, min(262_144, shares)) - 2) * 9999) // 262_142


def _quota(millis: int) -> int:
    return max(_MINIMUM_QUOTA, millis * _CPU_PERIOD // 1000)


def _enable_controllers(path: str) -> bool:
    """Hand the controllers that `path` has on to its children; False when it may not because of its processes."""
    allowed = True
    for controller in _V2_CONTROLLERS:
        try:
            write_file(f"{path}/cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            allowed = allowed and error.errno != errno.EBUSY
    return allowed


def _alone_in(path: str) -> bool:
    """Whether only this process and the one that started it, which is about to end, are in a group."""
    return set(_members(path)) <= {os.getpid(), os.getppid()}


def _members(path: str) -> list[int]:
    return [int(line) for line in _read(f"{path}/cgroup.procs").split()]


def _mounted(mounts: str) -> tuple[dict[str, str], str | None]:
    """Mount points by v1 controller, and that of the unified hierarchy."""
    v1: dict[str, str] = {}
    unified: str | None = None
    for line in _read(mounts).splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        target = left.split(" ")[4]
        if kind == "cgroup2":
            unified = target
        elif kind == "cgroup":
            super_options = options.split(" ")[-1].split(",")
            v1.update({name: target for name in _V1_CONTROLLERS if name in super_options})
    return v1, unified


def _own_groups(own: str) -> dict[str, str]:
    """The calling process's groups by v1 controller; under the empty name in the unified hierarchy."""
    groups: dict[str, str] = {}
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _below(mount: str, group: str, cluster: str) -> str:
    """The cluster's group below our own; at the top of the mount when our own is not visible (in a container)."""
    inside = f"{mount}{group}".rstrip("/")
    return f"{inside if os.path.isdir(inside) else mount}/podling-{cluster}"


def _walk(path: str) -> list[str]:
    """Groups below and including `path`, the deepest first; none when it does not exist."""
    return [directory for directory, _, _ in os.walk(path, topdown=False)]


def _processes(path: str) -> Iterator[int]:
    for group in _walk(path):
        with contextlib.suppress(OSError):
            yield from _members(group)


def _remove_tree(path: str) -> bool:
    for group in _walk(path):
        try:
            os.rmdir(group)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
                return False
            raise
    return True


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def _table(path: str) -> dict[str, int]:
    """A file of `name number` lines."""
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip("-").isdigit()}
