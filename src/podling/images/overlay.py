"""How a layer says "this is gone": whiteouts and opaque directories in overlayfs' own format.

In an image's tar file a deletion is a file named `.wh.NAME`; on disk, where the kernel stacks the layers, it is a
character device 0:0, which every user may make, or an attribute on a directory. The attribute's name depends on how the
overlay is mounted: `trusted.` with real root, `user.` in a user namespace (`userxattr`); both are set where allowed.
(Documentation/filesystems/overlayfs.rst; image-spec, layer.md.)
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

WHITEOUT_PREFIX = ".wh."
OPAQUE_MARKER = ".wh..wh..opq"
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")
_REFUSED = (errno.EPERM, errno.EACCES, errno.ENOTSUP)


def whiteout(path: Path) -> None:
    """Hides the file or directory of that name in the layers below."""
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def make_opaque(directory: Path) -> None:
    """Hides what the layers below have in this directory; raises `OSError` if no name of the attribute is allowed."""
    done = [_set_attribute(directory, name) for name in _OPAQUE]
    if not any(done):
        raise OSError(errno.ENOTSUP, "the filesystem keeps no extended attributes", str(directory))


def is_opaque(directory: Path) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(directory, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def is_internal_attribute(name: str) -> bool:
    """Whether an attribute is the overlay's own bookkeeping, which belongs in no image."""
    return name.startswith(("user.overlay.", "trusted.overlay."))


def _set_attribute(directory: Path, name: str) -> bool:
    try:
        os.setxattr(directory, name, b"y", follow_symlinks=False)
    except OSError as error:
        if error.errno in _REFUSED:
            return False
        raise
    return True
