"""Writes a set of files so that a reader sees all old ones or all new ones (kubelet's AtomicWriter layout).

The files lie in a directory of their own with the time in its name; the link `..data` points to it, and each visible
name is a link through `..data`. An update makes a new directory and renames one link.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from datetime import datetime
from pathlib import Path

from podling.node.payload import File, Payload

DATA = "..data"


def write(directory: Path, files: Payload, now: datetime, group: int | None = None) -> bool:
    """Makes the volume hold exactly `files`; `False` when it did already. `group` is the pod's fsGroup."""
    directory.mkdir(parents=True, exist_ok=True)
    old = _target(directory)
    if old is not None and _holds(old, files):
        return False
    new = directory / now.strftime("..%Y_%m_%d_%H_%M_%S.%f")
    new.mkdir(mode=0o755)
    for path, file in files.items():
        _write_file(new / path, file, group)
    _switch(directory, new.name)
    _link_names(directory, {path.split("/", 1)[0] for path in files})
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _target(directory: Path) -> Path | None:
    try:
        return directory / (directory / DATA).readlink()
    except OSError:
        return None


def _holds(directory: Path, files: Payload) -> bool:
    present = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
    if present.keys() != files.keys():
        return False
    return all(path.read_bytes() == files[name].data for name, path in present.items())


def _write_file(path: Path, file: File, group: int | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.data)
    mode = file.mode
    if group is not None:
        mode |= (mode & stat.S_IRUSR) >> 3
        give_to_group(path, group)
    path.chmod(mode)


def give_to_group(path: Path, group: int) -> None:
    """chown, as far as this user may: where the node has only one user id, pods of every id share it anyway."""
    with contextlib.suppress(OSError):
        os.chown(path, -1, group)


def _switch(directory: Path, name: str) -> None:
    temporary = directory / "..data_tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.rename(directory / DATA)


def _link_names(directory: Path, names: set[str]) -> None:
    present = {entry.name for entry in directory.iterdir() if not entry.name.startswith("..")}
    for name in names - present:
        (directory / name).symlink_to(f"{DATA}/{name}")
    for name in present - names:
        (directory / name).unlink()
