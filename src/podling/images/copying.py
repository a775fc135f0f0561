"""COPY and ADD: choose what is meant, say what it contains (for the cache), write it into a new layer.

The rules are BuildKit's: a directory as a source means its content; links inside are kept, a link as the source itself
is followed; files of the build context belong to root, files of another stage keep their owners; directories that are
already there keep their attributes.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import posixpath
import re
import shutil
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from podling.images import layers, view
from podling.images.dockerignore import glob_expression
from podling.images.view import Entry, Tree

_WILDCARDS = re.compile(r"[*?\[]")
_PERMISSIONS = 0o7777


class NothingMatches(Exception):
    """A source that does not exist; the text is its path."""


class CannotCopy(Exception):
    """What is asked for makes no sense; the text says why."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What --chown and --chmod say; None keeps what the source has. `clock`: mtime for new content, seconds."""

    owner: tuple[int, int] | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to copy. `name` is its name when it lands in a directory; `parents` its directories for --parents."""

    entry: Entry
    name: str
    parents: str = ""


def select(tree: Tree, patterns: tuple[str, ...], *, keep_parents: bool = False) -> list[Source]:
    """What the sources of an instruction mean; raises `NothingMatches`."""
    chosen: list[Source] = []
    for pattern in patterns:
        found = list(_matching(tree, pattern))
        if not found:
            raise NothingMatches(posixpath.normpath("/" + pattern))
        chosen += [_source(tree, path, pattern, keep_parents=keep_parents) for path in found]
    return chosen


def digest(tree: Tree, sources: list[Source], excludes: tuple[str, ...]) -> str:
    """Names, kinds, modes, link targets and content of everything that would be copied. Times do not count."""
    found = hashlib.sha256()
    for source in sources:
        _hash_entry(found, source.parents + source.name, source.entry)
        for entry in _below(tree, source.entry, excludes):
            _hash_entry(found, entry.path.removeprefix(source.entry.path), entry)
    return found.hexdigest()


def write(
    tree: Tree,
    sources: list[Source],
    layer: Layer,
    destination: str,
    attributes: Attributes,
    *,
    excludes: tuple[str, ...] = (),
    unpack: bool = False,
) -> None:
    """Copies into a layer; `destination` is absolute and ends in `/` if it is meant as a directory."""
    into_directory = destination.endswith("/") or len(sources) > 1 or layer.is_directory(destination)
    for source in sources:
        if unpack and source.entry.is_file and tarfile.is_tarfile(source.entry.real):
            target = layer.directory(destination, attributes)
            with source.entry.real.open("rb") as stream:
                layers.unpack(stream, target, whiteouts=False)
        elif source.entry.is_directory:
            base = destination + "/" + source.parents + (source.name if source.parents else "")
            _write_directory(tree, source, layer, base, attributes, excludes)
        else:
            name = f"{destination}/{source.parents}{source.name}" if into_directory else destination
            layer.put(source.entry, name, attributes)


class Layer:
    """A layer in the making, on top of what is below it."""

    def __init__(self, root: Path, below: Tree, link_from: Path) -> None:
        """`link_from`: files below this directory may be linked rather than copied, since they never change."""
        self.root = root
        self._below = below
        self._link_from = link_from
        self._made: dict[str, tuple[str, Path]] = {}

    def is_directory(self, path: str) -> bool:
        found = self._find(self._resolved(path))
        return found is not None and found.is_directory

    def directory(self, path: str, attributes: Attributes) -> Path:
        """A directory of the image in this layer; what exists below keeps its attributes, the rest gets these."""
        return self._directory(path, attributes)[1]

    def _directory(self, path: str, attributes: Attributes) -> tuple[str, Path]:
        """The resolved path too. Remembered: every file of a directory asks again."""
        if path in self._made:
            return self._made[path]
        resolved = self._resolved(path)
        at = "/"
        for part in PurePosixPath(resolved).parts[1:]:
            at = view.join(at, part)
            self._make_directory(at, attributes)
        self._made[path] = resolved, self._real(resolved)
        return self._made[path]

    def put(self, entry: Entry, path: str, attributes: Attributes) -> None:
        """A file or link at a path; takes the place of what was there, but not of a directory."""
        path = posixpath.normpath(path)
        parent, name = posixpath.split(path)
        resolved_parent, real_parent = self._directory(parent, _for_parents(attributes))
        target = real_parent / name
        existing = self._find(view.join(resolved_parent, name))
        if existing is not None and existing.is_directory:
            raise CannotCopy(f"cannot copy to {path}: it is a directory")
        if existing is not None and existing.is_link and not entry.is_link:
            resolved = self._resolved(path)
            target = self.directory(posixpath.dirname(resolved), _for_parents(attributes)) / posixpath.basename(
                resolved
            )
        _unlink(target)
        self._copy(entry, target, attributes)

    def text(self, content: str, path: str, attributes: Attributes) -> None:
        """A file from a here-document."""
        parent, name = posixpath.split(posixpath.normpath(path))
        target = self.directory(parent, _for_parents(attributes)) / name
        _unlink(target)
        target.write_text(content, encoding="utf-8")
        target.chmod(0o644 if attributes.mode is None else attributes.mode)
        layers.set_owner(target, *(attributes.owner or (0, 0)))
        os.utime(target, (0, 0))

    def _resolved(self, path: str) -> str:
        return view.resolve(self, path)

    def entry(self, path: str) -> Entry | None:
        """This layer and what is below it, as one tree."""
        return self._find(path)

    def names(self, path: str) -> list[str]:
        return self._below.names(path)

    def _find(self, path: str) -> Entry | None:
        real = self._real(path)
        try:
            return Entry(path, real, real.lstat())
        except (FileNotFoundError, NotADirectoryError):
            return self._below.entry(path)

    def _real(self, path: str) -> Path:
        return self.root / path.strip("/")

    def _make_directory(self, path: str, attributes: Attributes) -> None:
        real = self._real(path)
        if real.is_dir():
            return
        below = self._below.entry(path)
        if below is not None and not below.is_directory:
            raise CannotCopy(f"cannot create directory {path}: it is a file")
        _unlink(real)
        real.mkdir()
        if below is None:
            layers.set_owner(real, *(attributes.owner or (0, 0)))
            real.chmod(0o755 if attributes.mode is None else attributes.mode)
        else:
            layers.set_owner(real, *_owner(below))
            real.chmod(stat.S_IMODE(below.status.st_mode))

    def _copy(self, entry: Entry, target: Path, attributes: Attributes) -> None:
        if entry.is_link:
            target.symlink_to(entry.real.readlink())
        elif not entry.is_file:
            raise CannotCopy(f"cannot copy {entry.path}: neither file, directory nor link")
        elif attributes == Attributes() and entry.real.is_relative_to(self._link_from):
            os.link(entry.real, target)
            return
        else:
            shutil.copyfile(entry.real, target)
        _dress(target, entry, attributes)


def _write_directory(
    tree: Tree, source: Source, layer: Layer, destination: str, attributes: Attributes, excludes: tuple[str, ...]
) -> None:
    existing = layer.is_directory(destination)
    target = layer.directory(destination, attributes)
    if not existing:
        _dress(target, source.entry, attributes)
    later: list[tuple[Path, Entry]] = []
    for entry in _below(tree, source.entry, excludes):
        path = posixpath.normpath(destination + "/" + entry.path.removeprefix(source.entry.path))
        if not entry.is_directory:
            layer.put(entry, path, attributes)
        elif not layer.is_directory(path):
            later.append((layer.directory(path, attributes), entry))
    for made, entry in reversed(later):
        _dress(made, entry, attributes)


def _dress(target: Path, entry: Entry, attributes: Attributes) -> None:
    """Owner before mode, since a change of owner clears setuid; time last."""
    layers.set_owner(target, *(attributes.owner or _owner(entry)))
    if not entry.is_link:
        target.chmod(stat.S_IMODE(entry.status.st_mode) if attributes.mode is None else attributes.mode)
    os.utime(target, ns=(entry.status.st_mtime_ns, entry.status.st_mtime_ns), follow_symlinks=False)


def _owner(entry: Entry) -> tuple[int, int]:
    return entry.status.st_uid, entry.status.st_gid


def _for_parents(attributes: Attributes) -> Attributes:
    """--chmod is for what is copied, --chown also for directories made on the way."""
    return Attributes(attributes.owner, None)


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return


def _source(tree: Tree, path: str, pattern: str, *, keep_parents: bool) -> Source:
    resolved = view.resolve(tree, path)
    entry = tree.entry(resolved)
    if entry is None:
        raise NothingMatches(path)
    parents = _kept_parents(path, pattern) if keep_parents else ""
    return Source(entry, posixpath.basename(path), parents)


def _kept_parents(path: str, pattern: str) -> str:
    """With --parents the path is kept, from the pivot `/./` on if there is one."""
    before, pivot, _ = pattern.partition("/./")
    base = posixpath.normpath("/" + before) + "/" if pivot and before.strip("./") else "/"
    inner = path.removeprefix(base)
    return posixpath.dirname(inner) + "/" if "/" in inner else ""


def _matching(tree: Tree, pattern: str) -> Iterator[str]:
    """The paths that a source stands for: itself, or what its wildcards match."""
    cleaned = posixpath.normpath("/" + pattern)
    while cleaned.startswith("//"):
        cleaned = cleaned[1:]
    if not _WILDCARDS.search(cleaned):
        if tree.entry(view.resolve(tree, cleaned)) is not None:
            yield cleaned
        return
    yield from _expand(tree, "/", PurePosixPath(cleaned).parts[1:])


def _expand(tree: Tree, directory: str, parts: tuple[str, ...]) -> Iterator[str]:
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _expand_any_depth(tree, directory, rest)
        return
    expression = re.compile(glob_expression(part)) if _WILDCARDS.search(part) else None
    for name in tree.names(view.resolve(tree, directory)):
        if name != part and not (expression and expression.fullmatch(name)):
            continue
        path = view.join(directory, name)
        if not rest:
            yield path
        elif (found := tree.entry(view.resolve(tree, path))) is not None and found.is_directory:
            yield from _expand(tree, path, rest)


def _expand_any_depth(tree: Tree, directory: str, rest: tuple[str, ...]) -> Iterator[str]:
    if rest:
        yield from _expand(tree, directory, rest)
    for name in tree.names(directory):
        path = view.join(directory, name)
        found = tree.entry(path)
        if found is None:
            continue
        if not rest and not found.is_directory:
            yield path
        if found.is_directory:
            yield from _expand_any_depth(tree, path, rest)


def _below(tree: Tree, entry: Entry, excludes: tuple[str, ...]) -> Iterator[Entry]:
    if not entry.is_directory:
        return
    for found in view.walk(tree, entry.path):
        relative = found.path.removeprefix(entry.path).lstrip("/")
        if not any(_excluded(relative, pattern) for pattern in excludes):
            yield found


def _excluded(path: str, pattern: str) -> bool:
    cleaned = posixpath.normpath(pattern).lstrip("/")
    return fnmatch.fnmatchcase(path, cleaned) or re.fullmatch(glob_expression(cleaned), path) is not None


def _hash_entry(found: hashlib._Hash, name: str, entry: Entry) -> None:  # pyright: ignore[reportPrivateUsage]  its only name
    mode = entry.status.st_mode
    header = f"{name}\0{stat.S_IFMT(mode)}\0{mode & _PERMISSIONS}\0"
    if entry.is_link:
        found.update(f"{header}{entry.real.readlink()}\0".encode("utf-8", "surrogateescape"))
        return
    found.update(header.encode("utf-8", "surrogateescape"))
    if entry.is_file:
        with entry.real.open("rb") as content:
            found.update(hashlib.file_digest(content, "sha256").digest())
