"""Looks into an image, or a build context, without mounting anything.

COPY has to know where `/bin/tool` really goes (`/bin` may be a link to `usr/bin` in a layer far below), what a glob in
another stage matches and who `app` is in `/etc/passwd`. Answering that from the layers directly needs no privileges,
and no sandbox. Paths are absolute, as the image sees them; links never lead out of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from podling.images import overlay
from podling.images.dockerignore import Ignore

_MAX_LINKS = 40
_HOST_TOPS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "var")
"""What a host-based image sees of the host (see `podling.sandbox.rootfs`)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, directory or link: its path in the tree, where it really lies, its own (not its target's) status."""

    path: str
    real: Path
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)


class Tree(Protocol):
    """Something that files can be copied from."""

    def entry(self, path: str) -> Entry | None:
        """What is at a path whose directories are no links."""
        ...

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted."""
        ...


class ImageView:
    """The layers of an image as one tree. `lowers`: topmost first."""

    def __init__(self, lowers: Sequence[Path], *, host_base: bool = False, host_paths: Sequence[str] = ()) -> None:
        self._lowers = tuple(lowers)
        self._host_base = host_base
        self._host_paths = tuple(host_paths)
        self._opaque: dict[Path, bool] = {}

    def entry(self, path: str) -> Entry | None:
        parts = PurePosixPath(path).parts[1:]
        if not parts:
            root = self._lowers[0] if self._lowers else Path("/")
            return Entry("/", root, root.lstat())
        for lower in self._lowers:
            found, covered = self._in_layer(lower, parts)
            if found is not None or covered:
                return Entry(path, *found) if found else None
        return self._on_host(path, parts)

    def names(self, path: str) -> list[str]:
        parts = PurePosixPath(path).parts[1:]
        found: dict[str, bool] = {}
        for lower in self._lowers:
            there, covered = self._in_layer(lower, parts)
            if there is not None and stat.S_ISDIR(there[1].st_mode):
                for name, hidden in _layer_names(there[0]):
                    found.setdefault(name, not hidden)
                covered = covered or self._is_opaque(there[0])
            elif there is not None:
                covered = True
            if covered:
                break
        else:
            found = {**dict.fromkeys(self._host_names(path, parts), True), **found}
        return sorted(name for name, visible in found.items() if visible)

    def _in_layer(self, layer: Path, parts: Sequence[str]) -> tuple[tuple[Path, os.stat_result] | None, bool]:
        """What one layer has at a path, and whether it hides what the layers below have there."""
        at, covered = layer, False
        status = layer.lstat()
        for part in parts:
            covered = covered or self._is_opaque(at)
            at = at / part
            try:
                status = at.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return None, covered or not stat.S_ISDIR(status.st_mode)
            if overlay.is_whiteout(status):
                return None, True
        return (at, status), covered

    def _is_opaque(self, directory: Path) -> bool:
        """Remembered, since layers do not change and every path passes through the same few directories."""
        if directory not in self._opaque:
            self._opaque[directory] = overlay.is_opaque(directory)
        return self._opaque[directory]

    def _on_host(self, path: str, parts: Sequence[str]) -> Entry | None:
        if not self._is_host_path(path) and not (self._host_base and parts[0] in _HOST_TOPS):
            return None
        real = Path(path)
        try:
            status = real.lstat()
        except OSError:
            return None
        if parts[0] == "var" and stat.S_ISREG(status.st_mode):
            return None
        return Entry(path, real, status)

    def _host_names(self, path: str, parts: Sequence[str]) -> list[str]:
        if not parts:
            tops = _HOST_TOPS if self._host_base else ()
            return [top for top in tops if os.path.lexists(f"/{top}")]
        if self._on_host(path, parts) is None:
            return []
        try:
            return [child.name for child in Path(path).iterdir()]
        except OSError:
            return []

    def _is_host_path(self, path: str) -> bool:
        return any(path == top or path.startswith(top + "/") for top in self._host_paths)


class ContextView:
    """A build context without what `.dockerignore` keeps out."""

    def __init__(self, root: Path, ignore: Ignore) -> None:
        self._root = root
        self._ignore = ignore

    def entry(self, path: str) -> Entry | None:
        relative = path.strip("/")
        real = self._root / relative
        try:
            status = real.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if relative and self._ignore.ignores(relative):
            if not stat.S_ISDIR(status.st_mode) or not self._ignore.may_hold_exceptions(relative):
                return None
            if not self.names(path):
                return None
        return Entry(path, real, status)

    def names(self, path: str) -> list[str]:
        try:
            listed = [child.name for child in (self._root / path.strip("/")).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in listed if self.entry(join(path, name)) is not None)

    def is_ignored(self, path: str) -> bool:
        """Whether a path is there but kept out."""
        return (self._root / path.strip("/")).exists() and self.entry(path) is None


def join(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"


def resolve(tree: Tree, path: str, *, follow_last: bool = True) -> str:
    """The path with all links followed inside the tree; what does not exist stays as it is.

    Raises `OSError` ELOOP for a loop.
    """
    done = "/"
    todo = list(reversed(PurePosixPath("/", path).parts[1:]))
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = str(PurePosixPath(done).parent)
            continue
        candidate = join(done, part)
        found = tree.entry(candidate)
        if found is None or not found.is_link or (not todo and not follow_last):
            done = candidate
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(40, "Too many levels of symbolic links", path)
        target = PurePosixPath(found.real.readlink())
        if target.is_absolute():
            done = "/"
        todo += [part for part in reversed(target.parts) if part != "/"]
    return done


def read_text(tree: Tree, path: str) -> str:
    """The text of a file in the tree; empty if there is none."""
    found = tree.entry(resolve(tree, path))
    if found is None or not found.is_file:
        return ""
    return found.real.read_text(encoding="utf-8", errors="replace")


def walk(tree: Tree, path: str) -> Iterator[Entry]:
    """Everything below a directory, parents first; links are not followed."""
    for name in tree.names(path):
        found = tree.entry(join(path, name))
        if found is None:
            continue
        yield found
        if found.is_directory:
            yield from walk(tree, found.path)


def _layer_names(directory: Path) -> Iterator[tuple[str, bool]]:
    """The names that a layer has in a directory, and whether each is a whiteout."""
    with os.scandir(directory) as entries:
        for entry in entries:
            yield entry.name, overlay.is_whiteout(entry.stat(follow_symlinks=False))
