"""The directories of volumes that are made to order, and of their snapshots."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from podling.node.localdisk import LocalDisk

Do = Callable[[Coroutine[Any, Any, Any]], Any]
do: Do = asyncio.run


@pytest.fixture
def disk(tmp_path: Path) -> Generator[LocalDisk]:
    made = LocalDisk(tmp_path / "volumes", tmp_path / "snapshots")
    yield made
    made.close()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_everybody_may_write_to_a_new_volume(disk: LocalDisk, tmp_path: Path) -> None:
    path = Path(do(disk.make("v")))
    assert path == tmp_path / "volumes" / "v"
    assert stat.S_IMODE(path.stat().st_mode) == 0o777


def test_a_volume_that_is_made_again_keeps_its_data(disk: LocalDisk) -> None:
    path = Path(do(disk.make("v")))
    (path / "data").write_text("kept")
    do(disk.make("v"))
    assert (path / "data").read_text() == "kept"


def test_a_removed_volume_leaves_nothing(disk: LocalDisk, tmp_path: Path) -> None:
    (Path(do(disk.make("v"))) / "data").write_text("gone")
    do(disk.remove("v"))
    assert names(tmp_path / "volumes") == []
    do(disk.remove("v"))


def test_what_a_broken_removal_left_goes_with_the_next(disk: LocalDisk, tmp_path: Path) -> None:
    (tmp_path / "volumes" / ".v").mkdir(parents=True)
    do(disk.remove("v"))
    assert names(tmp_path / "volumes") == []


def test_a_snapshot_brings_back_what_the_volume_held_then(disk: LocalDisk) -> None:
    data = Path(do(disk.make("v"))) / "data"
    data.write_text("then")
    do(disk.snapshot("s", "v"))
    data.write_text("now")
    assert (Path(do(disk.restore("w", "s"))) / "data").read_text() == "then"
    assert (Path(do(disk.clone("x", "v"))) / "data").read_text() == "now"


def test_a_copy_that_is_made_again_is_the_first_one(disk: LocalDisk) -> None:
    data = Path(do(disk.make("v"))) / "data"
    data.write_text("then")
    do(disk.snapshot("s", "v"))
    data.write_text("now")
    do(disk.snapshot("s", "v"))
    assert (Path(do(disk.restore("w", "s"))) / "data").read_text() == "then"


def test_what_is_not_there_cannot_be_copied(disk: LocalDisk, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        do(disk.restore("w", "s"))
    with pytest.raises(FileNotFoundError):
        do(disk.clone("w", "v"))
    assert names(tmp_path / "volumes") == []


def test_no_name_leads_out_of_the_directory(disk: LocalDisk, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "snapshots").mkdir()
    for name in ("../secret", "/etc", ".", "..", ""):
        assert not do(disk.has_snapshot(name))
        with pytest.raises(FileNotFoundError):
            do(disk.restore("w", name))
        with pytest.raises(FileNotFoundError):
            do(disk.remove_snapshot(name))
    assert (tmp_path / "secret").is_dir()


def test_what_a_killed_daemon_left_half_done_is_never_served_and_goes(tmp_path: Path) -> None:
    half = tmp_path / "snapshots" / ".s.0a1b2c3d"
    half.mkdir(parents=True)
    (half / "data").write_text("half")
    disk = LocalDisk(tmp_path / "volumes", tmp_path / "snapshots")
    assert not do(disk.has_snapshot("s"))
    (Path(do(disk.make("v"))) / "data").write_text("whole")
    do(disk.snapshot("s", "v"))  # by one of the threads that tidy up: a second copy sees the end of both
    do(disk.restore("w", "s"))
    disk.close()
    assert (tmp_path / "volumes" / "w" / "data").read_text() == "whole"
