"""The directories of volumes that are made to order."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

from podling.node.localdisk import LocalDisk


def test_everybody_may_write_to_a_new_volume(tmp_path: Path) -> None:
    path = Path(asyncio.run(LocalDisk(tmp_path / "volumes").make("v")))
    assert path == tmp_path / "volumes" / "v"
    assert stat.S_IMODE(path.stat().st_mode) == 0o777


def test_a_volume_that_is_made_again_keeps_its_data(tmp_path: Path) -> None:
    disk = LocalDisk(tmp_path)
    path = Path(asyncio.run(disk.make("v")))
    (path / "data").write_text("kept")
    asyncio.run(disk.make("v"))
    assert (path / "data").read_text() == "kept"


def test_a_removed_volume_leaves_nothing(tmp_path: Path) -> None:
    disk = LocalDisk(tmp_path)
    (Path(asyncio.run(disk.make("v"))) / "data").write_text("gone")
    asyncio.run(disk.remove("v"))
    assert list(tmp_path.iterdir()) == []


def test_what_a_broken_removal_left_goes_with_the_next(tmp_path: Path) -> None:
    (tmp_path / ".v").mkdir()
    asyncio.run(LocalDisk(tmp_path).remove("v"))
    assert list(tmp_path.iterdir()) == []
