"""Runs a build step in the sandbox, and keeps what it wrote as a layer.

The step sees the layers below it, the host's network, and nothing else of the host; on a base that the host stands in
for, also what the host's package managers are set up with (`hostsetup`), since such a base is the host's own system.
"""

from __future__ import annotations

import os
import posixpath
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from podling.images.hostsetup import Setup
from podling.images.view import ImageView
from podling.sandbox import oneshot, tiers
from podling.sandbox.process import StartFailure, Tier
from podling.sandbox.spec import ContainerSpec, Mount
from podling.sandbox.tiers import TierError

_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
"""Docker's default set, which build steps get there too."""

_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts")


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
    network: bool = True


Runner = Callable[[Execution, Path, Callable[[str], None]], int]
"""(step, empty directory, told every line of output) -> exit code. What was written is in the directory's `layer`."""


class CannotRun(Exception):
    """This machine does not let us run steps; the text says why, and how to mend it."""


@dataclass(frozen=True, slots=True)
class SandboxRunner:
    """Runs steps for real. `cache` is where the sandbox keeps the base layers of roots."""

    cache: Path
    setup: Setup

    def __call__(self, execution: Execution, staging: Path, output: Callable[[str], None]) -> int:
        directory = staging / "sandbox"
        directory.mkdir()
        spec = self._spec(execution, directory)
        code = self._run(spec, execution.network, output)
        if code == 0:
            (directory / "layer").rename(staging / "layer")
            below = ImageView([Path(lower) for lower in execution.lowers], host_base=execution.host_base)
            made = [*spec.get("host_paths", []), *spec.get("files", {}), *(mount["target"] for mount in spec["mounts"])]
            for target in made:
                _take_out(staging / "layer", below, target)
        return code

    def _run(self, spec: ContainerSpec, network: bool, output: Callable[[str], None]) -> int:
        try:
            tier = _tier(spec["directory"])
        except TierError as error:
            raise CannotRun(str(error)) from error
        reader, writer = os.pipe2(os.O_CLOEXEC)
        pump = threading.Thread(target=_pump, args=(reader, output), name="build output")
        pump.start()
        try:
            return oneshot.run_step(spec, writer, cache_directory=str(self.cache), network=network, tier=tier)
        except StartFailure as failure:
            os.write(writer, f"{failure.message}\n".encode())
            return failure.exit_code
        finally:
            os.close(writer)
            pump.join()

    def _spec(self, execution: Execution, directory: Path) -> ContainerSpec:
        """The step as the sandbox takes it; the host's settings first, so that the image's own win."""
        setup = self.setup if execution.host_base else Setup({}, {}, ())
        files = {name: text for name in _NETWORK_FILES if execution.network and (text := _text(name))}
        return {
            "id": f"step-{directory.parent.name}",
            "pod": "",
            "lowers": list(execution.lowers),
            "host_base": execution.host_base,
            "host_paths": [*execution.host_paths, *(path for path in setup.paths if path not in execution.host_paths)],
            "directory": str(directory),
            "args": list(execution.args),
            "env": {**setup.environment, **execution.environment},
            "cwd": execution.directory,
            "uid": execution.uid,
            "gid": execution.gid,
            "groups": list(execution.groups),
            "mounts": list(execution.mounts),
            "capabilities": list(_CAPABILITIES),
            "no_new_privileges": False,
            "read_only_root": False,
            "tty": False,
            "stdin": False,
            "files": {**files, **setup.files},
        }


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _pump(reader: int, output: Callable[[str], None]) -> None:
    """Line by line; of a line that was drawn over and over (progress bars) the last state."""
    with os.fdopen(reader, encoding="utf-8", errors="replace", newline="\n") as stream:
        for line in stream:
            output(line.rstrip("\r\n").rpartition("\r")[2])


def _tier(directory: str) -> Tier:
    """Trying takes time, so it is left out where there is no choice: the step itself then says what does not work."""
    candidates = tiers.candidates()
    return candidates[0] if len(candidates) == 1 else tiers.choose(directory)


def _take_out(layer: Path, below: ImageView, target: str) -> None:
    """Removes an empty mount point that had to be made, and the directories above it that exist only for it."""
    path = posixpath.normpath(target)
    while path != "/" and below.entry(path) is None:
        real = layer / path.lstrip("/")
        try:
            if real.is_dir():
                real.rmdir()
            elif real.stat().st_size == 0:
                real.unlink()
            else:
                return
        except FileNotFoundError:
            pass
        except OSError:
            return  # something else is in it
        path = posixpath.dirname(path)
