"""Runs a build step in the sandbox, and keeps what it wrote as a layer.

The step sees the layers below it, the host's network, and nothing else of the host; on a base that the host stands in
for, also what the host's package managers are set up with (`hostsetup`), since such a base is the host's own system.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from podling.sandbox.spec import Mount


@dataclass(frozen=True, slots=True)
class Execution:
    """A command to run. `lowers`: topmost first."""

    lowers: tuple[str, ...]
    host_base: bool
    host_paths: tuple[str, ...]
    args: tuple[str, ...]
    environment: dict[str, str]
    directory: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    mounts: tuple[Mount, ...] = ()
    files: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    network: bool = True


Runner = Callable[[Execution, Path, Callable[[str], None]], int]
"""(step, empty directory, told every line of output) -> exit code. What was written is in the directory's `layer`."""


def sandbox_runner(store: Path) -> Runner:  # noqa: ARG001
    """Runs steps for the store in that directory."""

    def run(execution: Execution, staging: Path, output: Callable[[str], None]) -> int:
        raise NotImplementedError

    return run
