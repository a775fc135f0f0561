"""The merged tree of an image is seen as the kernel would show it."""

from pathlib import Path

import pytest

from podling.images import overlay, view
from podling.images.view import ImageView


def layer(root: Path, *files: str) -> Path:
    root.mkdir()
    for name in files:
        path = root / name.rstrip("/")
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(root.name)
    return root


def paths(tree: ImageView) -> list[str]:
    return [entry.path for entry in view.walk(tree, "/")]


def test_the_topmost_layer_wins(tmp_path: Path) -> None:
    bottom, top = layer(tmp_path / "bottom", "d/a", "d/b"), layer(tmp_path / "top", "d/b", "c")
    tree = ImageView([top, bottom])
    assert paths(tree) == ["/c", "/d", "/d/a", "/d/b"]
    assert view.read_text(tree, "/d/b") == "top"
    assert view.read_text(tree, "/d/a") == "bottom"


def test_whiteouts_hide(tmp_path: Path) -> None:
    bottom, top = layer(tmp_path / "bottom", "d/a", "e/b"), layer(tmp_path / "top", "d/")
    overlay.whiteout(top / "d/a")
    overlay.whiteout(top / "e")
    tree = ImageView([top, bottom])
    assert paths(tree) == ["/d"]
    assert tree.entry("/e/b") is None


def test_an_opaque_directory_hides_what_is_below(tmp_path: Path) -> None:
    bottom, top = layer(tmp_path / "bottom", "d/a", "d/e/f"), layer(tmp_path / "top", "d/b")
    overlay.make_opaque(top / "d")
    tree = ImageView([top, bottom])
    assert paths(tree) == ["/d", "/d/b"]
    assert tree.entry("/d/a") is None
    assert tree.entry("/d/e/f") is None


def test_a_file_above_a_directory_hides_it(tmp_path: Path) -> None:
    tree = ImageView([layer(tmp_path / "top", "d"), layer(tmp_path / "bottom", "d/a")])
    assert paths(tree) == ["/d"]
    assert tree.entry("/d/a") is None
    assert tree.names("/d") == []


def test_links_lead_through_all_layers_but_never_out(tmp_path: Path) -> None:
    bottom = layer(tmp_path / "bottom", "usr/bin/sh")
    (bottom / "bin").symlink_to("usr/bin")
    (bottom / "out").symlink_to("../../../../usr")
    (bottom / "loop").symlink_to("loop")
    tree = ImageView([layer(tmp_path / "top"), bottom])
    assert view.resolve(tree, "/bin/sh") == "/usr/bin/sh"
    assert view.resolve(tree, "/out/bin/new") == "/usr/bin/new"
    assert view.resolve(tree, "/bin", follow_last=False) == "/bin"
    with pytest.raises(OSError, match="Too many levels"):
        view.resolve(tree, "/loop/x")


def test_the_host_is_below_where_it_stands_in(tmp_path: Path) -> None:
    top = layer(tmp_path / "top", "usr/local/x")
    overlay.make_opaque(top / "usr/local")
    tree = ImageView([top], host_base=True)
    assert tree.entry(view.resolve(tree, "/bin/sh")) is not None
    assert tree.names("/usr/local") == ["x"]
    assert tree.entry("/home") is None
    assert ImageView([top]).entry("/usr/bin") is None
