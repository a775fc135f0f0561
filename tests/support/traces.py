"""What a cluster leaves on the machine: processes, mounts, links, control groups, files."""

from __future__ import annotations

import fnmatch
import json
import os
from dataclasses import dataclass
from pathlib import Path

from support.people import Person
from support.system import wait_until


@dataclass(frozen=True)
class Traces:
    """Of one cluster of one person, as the machine shows them to root or to that person."""

    person: Person
    name: str

    @property
    def home(self) -> Path:
        return Path(self.person.env["PODLING_HOME"])

    @property
    def state(self) -> Path:
        return self.home / "clusters" / self.name

    def node(self) -> dict[str, int]:
        """`{"helper": pid, "zygote": pid, ...}` of the running cluster, as it wrote them."""
        found: dict[str, int] = json.loads((self.state / "run" / "node.json").read_text())
        return found

    def processes(self) -> set[int]:
        """Every process of the cluster, from its helper down."""
        children: dict[int, list[int]] = {}
        for pid in _pids():
            children.setdefault(_parent(pid), []).append(pid)
        found: set[int] = set()
        waiting = [self.node()["helper"]]
        while waiting:
            pid = waiting.pop()
            found.add(pid)
            waiting += children.get(pid, [])
        return found

    def mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if str(self.home) in line]

    def groups(self) -> list[str]:
        """A walk, for others' groups come and go meanwhile."""
        walk = os.walk("/sys/fs/cgroup")
        return [
            f"{above}/{name}" for above, below, _ in walk for name in fnmatch.filter(below, f"*{self.name}-????????*")
        ]

    def files(self) -> list[str]:
        """All but the images, which clusters share and keep."""
        return [str(p) for p in (self.home / "clusters").rglob("*")] + _short_run_directories(self.person)

    def contexts(self) -> str:
        return self.person.run("kubectl", "config", "get-contexts", "-o", "name").stdout


def links() -> list[str]:
    return sorted(os.listdir("/sys/class/net"))


def assert_gone(traces: Traces, processes: set[int], links_before: list[str]) -> None:
    """Nothing is left. The kernel takes links away in its own time, after their namespace."""
    assert not {pid for pid in processes if _alive(pid)}
    assert traces.mounts() == []
    assert traces.groups() == []
    assert traces.files() == []
    assert f"podling-{traces.name}" not in traces.contexts().split()
    wait_until(lambda: set(links()) <= set(links_before), timeout=10, what=f"links are left: {links()}")


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _short_run_directories(person: Person) -> list[str]:
    """Those in /tmp, where the state directory's own path is too long for sockets."""
    uid = os.getuid() if person.user is None else int(person.run("id", "-u").stdout)
    return [str(p) for p in Path("/tmp").glob(f"podling-{uid}-*")]
