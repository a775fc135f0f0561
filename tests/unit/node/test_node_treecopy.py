"""A copy of a volume is like the volume in everything that a program can see."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from podling.node.treecopy import CHUNK, copy_tree

MEMORY = Path("/dev/shm")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def elsewhere() -> Generator[Path]:
    """On another filesystem, which can neither share blocks with the first nor copy between both inside the kernel."""
    if not MEMORY.is_dir():
        pytest.skip("no second filesystem to write to")
    with tempfile.TemporaryDirectory(dir=MEMORY) as path:
        yield Path(path)


def test_content_modes_and_times_are_the_same(source: Path, tmp_path: Path) -> None:
    inner = source / "inner"
    inner.mkdir()
    (inner / "file").write_bytes(b"content")
    os.utime(inner / "file", ns=(1_000_000_001, 2_000_000_002))
    (inner / "file").chmod(0o4750)
    inner.chmod(0o2700)
    source.chmod(0o1777)
    os.utime(inner, ns=(3, 4_000_000_004))
    copy_tree(source, tmp_path / "copy")
    copied = tmp_path / "copy" / "inner" / "file"
    assert copied.read_bytes() == b"content"
    assert stat.S_IMODE(copied.stat().st_mode) == 0o4750
    assert copied.stat().st_mtime_ns == 2_000_000_002
    assert stat.S_IMODE(copied.parent.stat().st_mode) == 0o2700
    assert copied.parent.stat().st_mtime_ns == 4_000_000_004
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o1777


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_owners_are_the_same_and_set_id_bits_survive_them(source: Path, tmp_path: Path) -> None:
    for name in ("file", "link"):
        path = source / name
        path.symlink_to("file") if name == "link" else path.write_text("")
        os.chown(path, 1234, 4321, follow_symlinks=False)
    (source / "file").chmod(0o6711)
    copy_tree(source, tmp_path / "copy")
    for name in ("file", "link"):
        info = (tmp_path / "copy" / name).lstat()
        assert (info.st_uid, info.st_gid) == (1234, 4321)
    assert stat.S_IMODE((tmp_path / "copy" / "file").stat().st_mode) == 0o6711


def test_links_of_both_kinds_stay_links(source: Path, tmp_path: Path) -> None:
    (source / "a").write_text("shared")
    (source / "inner").mkdir()
    os.link(source / "a", source / "inner" / "b")
    (source / "to-nowhere").symlink_to("/etc/nothing")
    copy_tree(source, tmp_path / "copy")
    copy = tmp_path / "copy"
    assert (copy / "a").stat().st_ino == (copy / "inner" / "b").stat().st_ino
    assert (copy / "a").stat().st_ino != (source / "a").stat().st_ino
    assert os.readlink(copy / "to-nowhere") == "/etc/nothing"


def test_a_link_to_a_directory_is_not_followed(source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (source / "way-out").symlink_to(outside)
    copy_tree(source, tmp_path / "copy")
    assert (tmp_path / "copy" / "way-out").is_symlink()


def test_a_directory_that_is_a_link_is_no_source(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        copy_tree(tmp_path / "link", tmp_path / "copy")


def test_pipes_and_sockets_are_there_again(source: Path, tmp_path: Path) -> None:
    os.mkfifo(source / "pipe", 0o640)
    os.mknod(source / "socket", stat.S_IFSOCK | 0o600)
    copy_tree(source, tmp_path / "copy")
    assert stat.S_ISFIFO((tmp_path / "copy" / "pipe").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "copy" / "pipe").stat().st_mode) == 0o640
    assert stat.S_ISSOCK((tmp_path / "copy" / "socket").stat().st_mode)


def _write_with_holes(path: Path) -> None:
    with path.open("wb") as file:
        file.seek(3 * 2**20)
        file.write(b"x" * 5000)
        file.truncate(64 * 2**20)


def test_holes_stay_holes(source: Path, tmp_path: Path) -> None:
    _write_with_holes(source / "sparse")
    copy_tree(source, tmp_path / "copy")
    copied = tmp_path / "copy" / "sparse"
    assert copied.stat().st_size == 64 * 2**20
    assert copied.stat().st_blocks * 512 < 2**20
    assert copied.read_bytes() == (source / "sparse").read_bytes()


def test_another_filesystem_is_copied_to_as_well(source: Path, elsewhere: Path) -> None:
    _write_with_holes(source / "sparse")
    (source / "large").write_bytes(os.urandom(3 * 2**20 + 7))
    copy_tree(source, elsewhere / "copy")
    for name in ("sparse", "large"):
        assert (elsewhere / "copy" / name).read_bytes() == (source / name).read_bytes()
    assert (elsewhere / "copy" / "sparse").stat().st_blocks * 512 < 2**20


def test_extended_attributes_come_along(source: Path, tmp_path: Path) -> None:
    (source / "file").write_text("")
    try:
        os.setxattr(source / "file", "user.of", b"mine")
    except OSError:
        pytest.skip("this filesystem has no extended attributes")
    copy_tree(source, tmp_path / "copy")
    assert os.getxattr(tmp_path / "copy" / "file", "user.of") == b"mine"


def test_it_ends_when_it_is_no_longer_wanted(source: Path, tmp_path: Path) -> None:
    (source / "large").write_bytes(b"x" * (3 * CHUNK))
    answers = iter([True, True, False])
    with pytest.raises(OSError) as caught:
        copy_tree(source, tmp_path / "copy", lambda: next(answers))
    assert caught.value.errno == errno.ECANCELED


def test_nothing_is_written_into_what_is_there(source: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with pytest.raises(FileExistsError):
        copy_tree(source, tmp_path / "copy")
