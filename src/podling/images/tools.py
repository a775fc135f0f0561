"""Which language runtimes and servers this host has, found by looking where they are usually put; nothing is run.

People keep several: the distribution's in `/usr/bin`, their own from pyenv, uv, nvm and the like below their home,
those of CI machines in `/opt/hostedtoolcache`. Only what the current user may execute counts.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Version = tuple[int, ...]
_NUMBER = re.compile(r"\d+(?:\.\d+)*")


@dataclass(frozen=True, slots=True)
class Tool:
    """An executable of the host. `version` is what its path tells: (3, 12, 1), (3, 12), or nothing."""

    path: Path
    version: Version

    @property
    def prefix(self) -> Path:
        """Where it is installed: the directory above its `bin`, links resolved."""
        return self.path.resolve().parent.parent

    def fingerprint(self) -> str:
        """Changes when the tool is replaced."""
        status = self.path.stat()
        return f"{self.path.resolve()} {status.st_mtime_ns} {status.st_size}"


def find_pythons(home: Path, environment: Mapping[str, str]) -> list[Tool]:
    """Complete CPython 3 installations: those that can make virtual environments with pip."""
    patterns = (
        "/usr/local/bin/python3.*",
        "/usr/bin/python3.*",
        "/opt/hostedtoolcache/Python/*/x64/bin/python3.*",
        "/opt/python/*/bin/python3.*",
        f"{environment.get('PYENV_ROOT') or home / '.pyenv'}/versions/*/bin/python3.*",
        f"{home}/.local/share/uv/python/cpython-*/bin/python3.*",
        f"{home}/.local/share/mise/installs/python/*/bin/python3.*",
        f"{home}/.asdf/installs/python/*/bin/python3.*",
    )
    return list(_tools(patterns, re.compile(r"python3\.\d+"), _is_complete_python))


def find_nodes(home: Path, environment: Mapping[str, str]) -> list[Tool]:
    patterns = (
        *_on_path("node", environment),
        "/usr/local/bin/node",
        "/usr/bin/node",
        "/opt/hostedtoolcache/node/*/x64/bin/node",
        f"{home}/.nvm/versions/node/*/bin/node",
        f"{home}/.local/share/mise/installs/node/*/bin/node",
        f"{home}/.asdf/installs/nodejs/*/bin/node",
    )
    return list(_tools(patterns, re.compile("node")))


def find_gos(home: Path, environment: Mapping[str, str]) -> list[Tool]:
    patterns = (
        *_on_path("go", environment),
        "/usr/local/go/bin/go",
        "/usr/lib/go-*/bin/go",
        "/opt/hostedtoolcache/go/*/x64/bin/go",
        f"{home}/sdk/go*/bin/go",
        f"{home}/.local/share/mise/installs/go/*/bin/go",
    )
    return list(_tools(patterns, re.compile("go")))


def find_postgres(home: Path, environment: Mapping[str, str]) -> list[Tool]:
    del home
    patterns = ("/usr/lib/postgresql/*/bin/postgres", "/usr/pgsql-*/bin/postgres", *_on_path("postgres", environment))
    return list(_tools(patterns, re.compile("postgres")))


def find_nginx(home: Path, environment: Mapping[str, str]) -> list[Tool]:
    del home
    patterns = ("/usr/sbin/nginx", "/usr/local/sbin/nginx", *_on_path("nginx", environment))
    return list(_tools(patterns, re.compile("nginx")))


def best(tools: Iterable[Tool], wanted: Version) -> Tool | None:
    """The tool nearest to a version: the exact one, else the same series, else the nearest (the newer of two).

    Among equals the earlier in the list wins, which puts the distribution's own before those below a home.
    """
    listed = list(tools)
    if not wanted:
        return max(listed, key=lambda tool: (tool.version, -listed.index(tool)), default=None)
    return min(listed, key=lambda tool: (*_distance(tool.version, wanted), listed.index(tool)), default=None)


def _distance(version: Version, wanted: Version) -> tuple[int, ...]:
    """Difference at each place that is asked for: a newer one is a little nearer, an unknown one nearly right."""
    return tuple(
        abs(version[place] - number) * 2 - (version[place] > number) if place < len(version) else 1
        for place, number in enumerate(wanted)
    )


def _tools(
    patterns: Iterable[str], name: re.Pattern[str], accept: Callable[[Path], bool] = lambda _: True
) -> Iterator[Tool]:
    seen: set[Path] = set()
    for pattern in patterns:
        for text in sorted(glob.glob(pattern)):  # noqa: PTH207  absolute patterns, also of other roots
            path = Path(text)
            if not name.fullmatch(path.name) or not os.access(path, os.X_OK) or path.is_dir():
                continue
            real = path.resolve()
            if real not in seen and accept(real):
                seen.add(real)
                yield Tool(path, _version(path))


def _version(path: Path) -> Version:
    """The longest version number in the path: a directory `3.12.1` says more than a file `python3.12`."""
    numbers = [_NUMBER.findall(part) for part in path.parts]
    found = max((number for part in numbers for number in part), key=lambda n: n.count("."), default="")
    return tuple(int(part) for part in found.split(".")) if found else ()


def _on_path(name: str, environment: Mapping[str, str]) -> list[str]:
    """Not a version manager's shim, which is a script that needs its manager."""
    path = shutil.which(name, path=environment.get("PATH", ""))
    return [path] if path and "/shims/" not in path else []


def _is_complete_python(path: Path) -> bool:
    """Debian keeps venv and pip in packages of their own."""
    library = path.parent.parent / "lib" / path.name
    return all((library / module / "__init__.py").is_file() for module in ("venv", "ensurepip"))
