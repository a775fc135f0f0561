"""A copy of a directory with everything in it: owners, modes, times, extended attributes, links of both kinds, holes.

Where the filesystem can share blocks between files (FICLONE: Btrfs, XFS, bcachefs), a copy takes no room and almost no
time. Programs may go on writing meanwhile, and may be hostile: every step goes by descriptors of directories and never
follows a link, so that a directory which becomes a link to somewhere else leads nowhere. What vanishes while it is read
is left out. The copy is of the files one after the other, not of one moment.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Generator
from pathlib import Path

FICLONE = 0x40049409
CHUNK = 16 * 2**20
"""Bytes after which it is looked whether the copy is still wanted."""
DEEPEST = 500
"""Directories inside each other: each holds two descriptors."""
_CANNOT_SHARE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ENOSYS)
_NO_RANGES = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(source: Path, target: Path, wanted: Callable[[], bool] = lambda: True) -> None:
    """Makes `target`, which must not exist, a copy of the directory `source`.

    Raises `OSError`; ECANCELED when it is no longer `wanted`. What is there by then is left to the caller.
    """
    with contextlib.ExitStack() as stack:
        old = _open(stack, source)
        target.mkdir(0o700)
        new = _open(stack, target)
        _Copy(new, wanted).directory(old, new, "", 0)


def _open(stack: contextlib.ExitStack, path: Path | str, within: int | None = None) -> int:
    descriptor = os.open(path, _DIRECTORY, dir_fd=within)
    stack.callback(os.close, descriptor)
    return descriptor


class _Copy:
    def __init__(self, root: int, wanted: Callable[[], bool]) -> None:
        self._root = root
        self._wanted = wanted
        self._shares = True
        self._linked: dict[tuple[int, int], str] = {}
        """Where a file with several names has its first one in the copy."""

    def directory(self, old: int, new: int, path: str, depth: int) -> None:
        """Everything in the directory, then its own attributes: filling it changes its time."""
        if depth > DEEPEST:
            raise OSError(errno.ENAMETOOLONG, "directories lie too deep in each other to be copied", path)
        for name in os.listdir(old):
            with contextlib.suppress(FileNotFoundError):
                self._entry(old, new, name, path, depth)
        _take_over_attributes(old, new)

    def _entry(self, old: int, new: int, name: str, path: str, depth: int) -> None:
        self._go_on()
        info = os.stat(name, dir_fd=old, follow_symlinks=False)
        inner = f"{path}{name}"
        if stat.S_ISDIR(info.st_mode):
            with contextlib.ExitStack() as stack:
                source = _open(stack, name, old)
                os.mkdir(name, 0o700, dir_fd=new)
                self.directory(source, _open(stack, name, new), f"{inner}/", depth + 1)
        elif not self._is_linked(new, name, inner, info):
            self._leaf(old, new, name, info)

    def _is_linked(self, new: int, name: str, inner: str, info: os.stat_result) -> bool:
        """Gives a file that has been copied already its other name."""
        if info.st_nlink < 2:
            return False
        first = self._linked.get((info.st_dev, info.st_ino))
        if first is not None:
            with contextlib.suppress(FileNotFoundError):  # it vanished before it was copied
                os.link(first, name, src_dir_fd=self._root, dst_dir_fd=new, follow_symlinks=False)
                return True
        self._linked[info.st_dev, info.st_ino] = inner
        return False

    def _leaf(self, old: int, new: int, name: str, info: os.stat_result) -> None:
        if stat.S_ISREG(info.st_mode):
            self._file(old, new, name)
            return
        if stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(name, dir_fd=old), name, dir_fd=new)
        else:
            os.mknod(name, info.st_mode, info.st_rdev, dir_fd=new)
        with _unknown_ids():
            os.chown(name, info.st_uid, info.st_gid, dir_fd=new, follow_symlinks=False)
        if not stat.S_ISLNK(info.st_mode):
            os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=new)
        os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=new, follow_symlinks=False)

    def _file(self, old: int, new: int, name: str) -> None:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=old)
        try:
            info = os.fstat(source)
            if not stat.S_ISREG(info.st_mode):
                raise FileNotFoundError(errno.ENOENT, "it became something else meanwhile", name)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(name, flags, 0o600, dir_fd=new)
            try:
                if not self._share(source, target):
                    self._copy_data(source, target, info.st_size)
                _take_over_attributes(source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _share(self, source: int, target: int) -> bool:
        """Whether both files have the same blocks now; a filesystem that cannot is asked once."""
        if not self._shares:
            return False
        try:
            fcntl.ioctl(target, FICLONE, source)
        except OSError as error:
            if error.errno not in _CANNOT_SHARE:
                raise
            self._shares = False
        return self._shares

    def _copy_data(self, source: int, target: int, size: int) -> None:
        """What is written; holes stay holes."""
        os.ftruncate(target, size)
        at = 0
        while at < size:
            try:
                begin = os.lseek(source, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return  # only a hole is left
                raise
            at = min(os.lseek(source, begin, os.SEEK_HOLE), size)
            self._copy_range(source, target, begin, at)

    def _copy_range(self, source: int, target: int, begin: int, end: int) -> None:
        copy = _by_kernel
        while begin < end:
            self._go_on()
            try:
                count = copy(source, target, begin, min(CHUNK, end - begin))
            except OSError as error:
                if copy is _by_hand or error.errno not in _NO_RANGES:
                    raise
                copy = _by_hand
                continue
            if count == 0:
                return  # it has become shorter
            begin += count

    def _go_on(self) -> None:
        if not self._wanted():
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))


def _by_kernel(source: int, target: int, at: int, count: int) -> int:
    return os.copy_file_range(source, target, count, at, at)


def _by_hand(source: int, target: int, at: int, count: int) -> int:
    data = os.pread(source, min(count, 2**20), at)
    return os.pwrite(target, data, at)


def _take_over_attributes(source: int, target: int) -> None:
    """Of open files or directories. The owner first: giving a file away takes capabilities and set-id bits from it."""
    info = os.fstat(source)
    with _unknown_ids():
        os.fchown(target, info.st_uid, info.st_gid)
    os.fchmod(target, stat.S_IMODE(info.st_mode))
    for name in os.listxattr(source):
        with contextlib.suppress(OSError):  # of other security modules, or not for this user to set
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))


@contextlib.contextmanager
def _unknown_ids() -> Generator[None]:
    """Owners from outside the user namespace have no number in it: their files become the daemon's."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
