"""A layer's tar stream becomes a directory that overlayfs stacks, and can do no harm on the way."""

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from podling.images import layers, overlay
from podling.images.layers import LayerError


def archive(*members: tuple[str, str, str], change: Callable[[tarfile.TarInfo], None] | None = None) -> io.BytesIO:
    """(name, kind, content or target); kinds: f, d, l (symbolic), h (hard), p (pipe)."""
    kinds = {
        "f": tarfile.REGTYPE,
        "d": tarfile.DIRTYPE,
        "l": tarfile.SYMTYPE,
        "h": tarfile.LNKTYPE,
        "p": tarfile.FIFOTYPE,
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kinds[kind]
            info.mode = 0o755 if kind == "d" else 0o644
            info.mtime = 1_000_000
            info.uid, info.gid = os.getuid(), os.getgid()
            if kind == "f":
                info.size = len(content)
            else:
                info.linkname = content
            if change:
                change(info)
            tar.addfile(info, io.BytesIO(content.encode()) if kind == "f" else None)
    stream.seek(0)
    return stream


def test_files_links_modes_and_times_arrive(tmp_path: Path) -> None:
    stream = archive(("d", "d", ""), ("d/f", "f", "text"), ("d/h", "h", "d/f"), ("d/l", "l", "f"), ("./p", "p", ""))
    layers.unpack(stream, tmp_path)
    assert (tmp_path / "d/f").read_text() == "text"
    assert (tmp_path / "d/f").stat().st_ino == (tmp_path / "d/h").stat().st_ino
    assert str((tmp_path / "d/l").readlink()) == "f"
    assert stat.S_ISFIFO((tmp_path / "p").lstat().st_mode)
    assert (tmp_path / "d").stat().st_mtime == (tmp_path / "d/f").stat().st_mtime == 1_000_000


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../evil", "f", "x")], "path leaves the layer"),
        ([("a/../../evil", "f", "x")], "path leaves the layer"),
        ([("h", "h", "../../etc/passwd")], "link leaves the layer"),
        ([("h", "h", "nothing")], "hard link to nothing"),
        ([(".wh.", "f", "")], "whiteout without a name"),
        ([(".wh...", "f", "")], "whiteout without a name"),
    ],
)
def test_a_path_that_leads_out_is_refused(tmp_path: Path, members: list[tuple[str, str, str]], message: str) -> None:
    (tmp_path / "layer").mkdir()
    with pytest.raises(LayerError, match=message):
        layers.unpack(archive(*members), tmp_path / "layer")
    assert [path.name for path in tmp_path.iterdir()] == ["layer"]


@pytest.mark.parametrize("target", ["/outside", "../../outside", "../outside"])
def test_writing_through_a_link_stays_inside(tmp_path: Path, target: str) -> None:
    layer, outside = tmp_path / "layer", tmp_path / "outside"
    layer.mkdir()
    outside.mkdir()
    layers.unpack(archive(("a", "l", target), ("a/evil", "f", "x")), layer)
    assert list(outside.iterdir()) == []
    assert (layer / "outside/evil").read_text() == "x"


def test_a_file_is_never_written_through_a_link_at_its_own_name(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("safe")
    (tmp_path / "layer").mkdir()
    layers.unpack(archive(("a", "l", str(victim)), ("a", "f", "evil")), tmp_path / "layer")
    assert victim.read_text() == "safe"
    assert (tmp_path / "layer/a").read_text() == "evil"


def test_absolute_names_are_taken_inside(tmp_path: Path) -> None:
    layers.unpack(archive(("/etc/x", "f", "1")), tmp_path)
    assert (tmp_path / "etc/x").read_text() == "1"


def test_a_later_entry_replaces_an_earlier_one(tmp_path: Path) -> None:
    layers.unpack(archive(("a/b", "f", "1"), ("a", "f", "2"), ("c", "f", "3"), ("c/d", "f", "4")), tmp_path)
    assert (tmp_path / "a").read_text() == "2"
    assert (tmp_path / "c/d").read_text() == "4"


def test_deletions_become_the_overlays_own(tmp_path: Path) -> None:
    layers.unpack(archive(("d/.wh.gone", "f", ""), ("o/.wh..wh..opq", "f", "")), tmp_path)
    assert overlay.is_whiteout((tmp_path / "d/gone").lstat())
    assert overlay.is_opaque(tmp_path / "o")


def test_directories_that_may_not_be_written_are_filled_first(tmp_path: Path) -> None:
    def lock(info: tarfile.TarInfo) -> None:
        info.mode = 0o555 if info.isdir() else 0o444

    layers.unpack(archive(("d", "d", ""), ("d/f", "f", "x"), change=lock), tmp_path)
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o555
    layers.remove_tree(tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_garbage_is_no_layer(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="not a layer"):
        layers.unpack(io.BytesIO(b"\x1f\x8bgarbage" * 100), tmp_path)


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="too many levels of symbolic links"):
        layers.unpack(archive(("a", "l", "b"), ("b", "l", "a"), ("a/x", "f", "")), tmp_path)


def test_packing_gives_back_what_was_unpacked(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    stream = archive(
        ("d", "d", ""),
        ("d/f", "f", "text"),
        ("d/h", "h", "d/f"),
        ("l", "l", "d/f"),
        ("d/.wh.x", "f", ""),
        ("d/.wh..wh..opq", "f", ""),
    )
    layers.unpack(stream, one)
    packed = io.BytesIO()
    first = layers.pack(one, packed.write)
    packed.seek(0)
    layers.unpack(packed, two)
    assert layers.pack(two) == first
    assert overlay.is_opaque(two / "d")
    assert (two / "d/f").stat().st_nlink == 2


def test_a_digest_depends_on_content_alone(tmp_path: Path) -> None:
    digests: set[str] = set()
    for order in (("b", "a"), ("a", "b")):
        root = tmp_path / order[0]
        root.mkdir()
        for name in order:
            (root / name).write_text(name)
            os.utime(root / name, (5, 5))
        digests.add(layers.pack(root).diff_id)
    assert len(digests) == 1
