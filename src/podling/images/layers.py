"""Layers between the two forms they live in: a tar stream in registries, an overlay-ready directory on disk.

`unpack` trusts nothing in the stream: every path is resolved inside the directory, as if it were the root, so neither
`..` nor a symbolic link that an earlier entry made leads out of it. Owners are kept as far as the caller may set them:
without root everything belongs to the user, who is the root of the container.
`pack` is deterministic, so a layer's digest (its diffID) depends on nothing but its content.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from podling.images import overlay

_XATTR_KEY = "SCHILY.xattr."
_MAX_LINKS = 40
_PERMISSIONS = 0o7777
_NOT_PERMITTED = (errno.EPERM, errno.EINVAL, errno.EACCES)


class LayerError(ValueError):
    """A tar stream that is not a proper layer."""


@dataclass(slots=True)
class _Unpacking:
    """`directories` get their modes and times last, since files are still written into them."""

    root: Path
    whiteouts: bool
    directories: list[tuple[Path, tarfile.TarInfo]] = field(
        default_factory=lambda: list[tuple[Path, tarfile.TarInfo]]()
    )


def unpack(stream: IO[bytes], root: Path, *, whiteouts: bool = True) -> None:
    """Writes a tar stream (plain or compressed as tarfile knows) into an existing directory.

    `whiteouts`: whether `.wh.` names are deletions, as in a layer, or plain names, as in an ADDed tar file.
    Raises `LayerError` for a stream that is broken or reaches outside, `OSError` for the disk.
    """
    work = _Unpacking(root, whiteouts)
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                _extract(work, archive, member)
    except (tarfile.TarError, EOFError) as error:
        raise LayerError(f"not a layer: {error}") from error
    for path, member in reversed(work.directories):
        _set_attributes(path, member)


def inside(root: Path, path: str, *, follow_last: bool = True) -> Path:
    """Where a path lies when `root` is taken for `/`: links are followed, but never out of it.

    Parts that do not exist are taken as they are. Raises `LayerError` for a loop of links.
    """
    done = PurePosixPath("/")
    todo = list(reversed(PurePosixPath("/", path).parts[1:]))
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done.parent
            continue
        candidate = root / str(done / part)[1:]
        if not candidate.is_symlink() or (not todo and not follow_last):
            done /= part
            continue
        links += 1
        if links > _MAX_LINKS:
            raise LayerError(f"too many levels of symbolic links: {path}")
        target = PurePosixPath(candidate.readlink())
        if target.is_absolute():
            done = PurePosixPath("/")
        todo += [part for part in reversed(target.parts) if part != "/"]
    return root / str(done)[1:]


def _extract(work: _Unpacking, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    name = PurePosixPath("/", member.name)
    if ".." in name.parts:
        raise LayerError(f"path leaves the layer: {member.name}")
    if name == PurePosixPath("/"):
        if member.isdir():
            work.directories.append((work.root, member))
        return
    parent = inside(work.root, str(name.parent))
    _make_directories(work.root, parent)
    if work.whiteouts and name.name.startswith(overlay.WHITEOUT_PREFIX):
        _delete_below(parent, name.name)
        return
    path = parent / name.name
    _make_room(path, keep_directory=member.isdir())
    if _create(work, archive, member, path) and not member.isdir():
        _set_attributes(path, member)


def _delete_below(parent: Path, name: str) -> None:
    if name == overlay.OPAQUE_MARKER:
        overlay.make_opaque(parent)
        return
    hidden = name.removeprefix(overlay.WHITEOUT_PREFIX)
    if not hidden or hidden in (".", ".."):
        raise LayerError(f"whiteout without a name: {name}")
    _make_room(parent / hidden, keep_directory=False)
    overlay.whiteout(parent / hidden)


def _make_directories(root: Path, path: Path) -> None:
    """Parents that the stream does not name; what is in the way and no directory gives way."""
    missing: list[Path] = []
    while path != root and not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        _make_room(directory, keep_directory=True)
        directory.mkdir(mode=0o755)


def _make_room(path: Path, *, keep_directory: bool) -> None:
    """A later entry replaces an earlier one."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        path.unlink()
    elif not keep_directory:
        remove_tree(path)


def _create(work: _Unpacking, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bool:
    """Whether something was made that has attributes of its own."""
    if member.isdir():
        path.mkdir(mode=0o755, exist_ok=True)
        work.directories.append((path, member))
    elif member.isreg():
        _write_file(archive, member, path)
    elif member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        _link(work.root, member, path)
        return False
    elif member.isfifo():
        os.mkfifo(path)
    elif member.isdev():
        return _make_device(member, path)
    else:
        raise LayerError(f"unknown type of entry: {member.name}")
    return True


def _write_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = archive.extractfile(member)
    assert source is not None
    with source, path.open("xb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _link(root: Path, member: tarfile.TarInfo, path: Path) -> None:
    if ".." in PurePosixPath(member.linkname).parts:
        raise LayerError(f"link leaves the layer: {member.name} -> {member.linkname}")
    target = inside(root, member.linkname, follow_last=False)
    try:
        os.link(target, path, follow_symlinks=False)
    except FileNotFoundError:
        raise LayerError(f"hard link to nothing: {member.name} -> {member.linkname}") from None


def _make_device(member: tarfile.TarInfo, path: Path) -> bool:
    """Only root may make devices; a container gets its /dev from the sandbox, so none is missed."""
    kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
    try:
        os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
    except PermissionError:
        return False
    return True


def _set_attributes(path: Path, member: tarfile.TarInfo) -> None:
    """Owner first: changing it clears the setuid bits and file capabilities."""
    set_owner(path, member.uid, member.gid)
    for key, value in member.pax_headers.items():
        if key.startswith(_XATTR_KEY):
            _set_xattr(path, key.removeprefix(_XATTR_KEY), value.encode("utf-8", "surrogateescape"))
    if not member.issym():
        path.chmod(member.mode & _PERMISSIONS)
    os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def set_owner(path: Path, uid: int, gid: int) -> None:
    """Gives a file away, where that is allowed: a user alone owns everything, and is the container's root."""
    if os.geteuid() != 0:
        return
    try:
        os.chown(path, uid, gid, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NOT_PERMITTED:
            raise


def _set_xattr(path: Path, name: str, value: bytes) -> None:
    """File capabilities and the like need root; without, the program runs without them, as rootless Docker has it."""
    if overlay.is_internal_attribute(name):
        return
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (*_NOT_PERMITTED, errno.ENOTSUP):
            raise


@dataclass(frozen=True, slots=True)
class Packed:
    """What packing found: the digest of the tar stream, and the sum of the file sizes."""

    diff_id: str
    size: int


def pack(root: Path, target: Callable[[bytes], object] | None = None) -> Packed:
    """The layer's tar stream, given to `target` piece by piece and hashed on the way."""
    digest = hashlib.sha256()
    sink = _Sink([digest.update, target] if target else [digest.update])
    size = 0
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20) as archive:
        for path, name in _walk(root):
            size += _add(archive, path, name)
    return Packed("sha256:" + digest.hexdigest(), size)


class _Sink(io.RawIOBase):
    """A write-only file that only passes on."""

    def __init__(self, targets: list[Callable[[bytes], object]]) -> None:
        self._targets = targets

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        for target in self._targets:
            target(data)
        return len(data)


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """Everything below, parents first, in the order of the names' bytes."""
    pending = [(root, "")]
    while pending:
        directory, prefix = pending.pop()
        below: list[tuple[Path, str]] = []
        with os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda e: os.fsencode(e.name)):
                name = prefix + entry.name
                yield directory / entry.name, name
                if entry.is_dir(follow_symlinks=False):
                    below.append((directory / entry.name, name + "/"))
        pending += reversed(below)


def _add(archive: tarfile.TarFile, path: Path, name: str) -> int:
    """One entry; gives the size of its content."""
    status = path.lstat()
    if overlay.is_whiteout(status):
        parent, slash, last = name.rpartition("/")
        archive.addfile(_plain_entry(f"{parent}{slash}{overlay.WHITEOUT_PREFIX}{last}"))
        return 0
    if stat.S_ISSOCK(status.st_mode):
        return 0
    member = archive.gettarinfo(str(path), arcname=name)
    member.uname = member.gname = ""
    member.mtime = int(status.st_mtime)
    member.uid, member.gid = (
        _seen_from_inside(status.st_uid, os.geteuid()),
        _seen_from_inside(status.st_gid, os.getegid()),
    )
    member.pax_headers = _xattrs(path)
    if member.isreg():
        with path.open("rb") as content:
            archive.addfile(member, content)
        return member.size
    archive.addfile(member)
    if member.isdir() and overlay.is_opaque(path):
        archive.addfile(_plain_entry(f"{name}/{overlay.OPAQUE_MARKER}"))
    return 0


def _plain_entry(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def _seen_from_inside(owner: int, me: int) -> int:
    """Without root, files of the user are files of the container's root."""
    return 0 if owner == me else owner


def _xattrs(path: Path) -> dict[str, str]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    found: dict[str, str] = {}
    for name in sorted(names):
        if not overlay.is_internal_attribute(name):
            value = os.getxattr(path, name, follow_symlinks=False)
            found[_XATTR_KEY + name] = value.decode("utf-8", "surrogateescape")
    return found


def remove_tree(path: Path) -> None:
    """Deletes a directory, also where it contains directories that not even their owner may look into or write."""
    try:
        shutil.rmtree(path)
    except PermissionError:
        _open_up(path)
        shutil.rmtree(path)


def _open_up(directory: Path) -> None:
    directory.chmod(stat.S_IRWXU)
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _open_up(Path(entry.path))
