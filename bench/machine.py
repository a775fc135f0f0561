"""The machine that is measured on, and the clusters that are measured."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.people import Person, myself

NAME = f"bench-{os.getpid()}"


@dataclass(frozen=True)
class Settings:
    """How long to look."""

    seconds: float
    rounds: int


def describe() -> str:
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 2**20
    return (
        f"{os.cpu_count()} cores, {memory} GiB, Linux {platform.release()}, Python {platform.python_version()}, "
        f"{'root' if os.geteuid() == 0 else 'rootless'}; {load()}"
    )


def load() -> str:
    """Other work on the machine makes every figure worse: it belongs to them."""
    return f"load average {' '.join(f'{n:.2f}' for n in os.getloadavg())}"


@contextmanager
def cluster(*args: str | Path) -> Generator[tuple[Person, Any]]:
    """A person with a running cluster, and its status."""
    with myself() as person:
        try:
            person.podling("up", *(args or ("--empty",)), "--name", NAME, timeout=300)
            yield person, status(person)
        finally:
            person.podling("down", "--name", NAME, check=False)


def status(person: Person) -> Any:
    return person.podling_json("status", "--name", NAME)


def process(facts: Any, name: str) -> int:
    pid: int = next(p["pid"] for p in facts["processes"] if p["name"] == name)
    return pid


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Bytes that are a process's own, and its share of the rest (PSS)."""
    line = next(line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024


def median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else float("nan")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints Markdown."""
    lines = [list(heads), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for number, line in enumerate(lines):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |", flush=True)
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.2f} ms"
