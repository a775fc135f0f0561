"""The image store: layers and configurations by digest, names on top; shared by all clusters of a user.

    index.json           names -> images; replaced atomically, changed only under the lock
    configs/<id>         configuration documents, as the bytes whose digest is the image's id
    layers/<id>/         a layer as overlayfs takes it; complete once it is here
    sizes/<id>           the layer's size in bytes
    cache/<key>          what a build step resulted in
    staging/             what is being made; a leftover of a crash is swept away by `prune`

A layer or configuration never changes once it is in place, so readers need no lock.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from podling.images import config, layers, references
from podling.images.config import ImageConfig, ImageDocument
from podling.images.errors import ImageError
from podling.sandbox import oneshot

Origin = Literal["built", "pulled", "host"]
_ID_LENGTH = 32
"""Hex digits of a digest in a file name: unique enough, and short, since a mount names all layers in one 4 KiB line."""
_GRACE = 3600.0
"""Seconds for which something that no name leads to is kept: a build may be about to name it."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is here and can be run."""

    reference: str
    """The normal form of the name it was asked for by; the id when it has none."""
    id: str
    """`sha256:<hex>` of its configuration."""
    config: ImageConfig
    lowers: tuple[str, ...]
    """Directories of its layers, the topmost first."""
    host_base: bool = False
    host_paths: tuple[str, ...] = ()
    digest: str = ""
    """Digest of the manifest it was pulled by; empty for an image that was built here."""
    origin: Origin = "built"
    note: str = ""
    """What the user should be told about it, such as that the host stands in."""


class Store:
    """All methods block; they may be called from any thread or process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("configs", "layers", "sizes", "cache", "staging"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def find(self, reference: references.Reference) -> Image | None:
        """The image of that name, or the one pulled by that digest."""
        return self.find_name(str(reference))

    def find_name(self, name: str) -> Image | None:
        """The image under any kind of name, as `add_name` gave it."""
        entry = self._index().get(name)
        return self._image(name, entry) if entry else None

    def state(self) -> int:
        """A number that changes with every change of the names."""
        try:
            return (self.root / "index.json").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def images(self) -> list[Image]:
        """All named images, by name."""
        return [self._image(name, entry) for name, entry in sorted(self._index().items())]

    def document(self, image_id: str) -> ImageDocument:
        """The configuration document; raises `ImageError` when it is damaged or gone."""
        try:
            return config.decode(self.document_bytes(image_id))
        except (OSError, ValueError) as error:
            raise ImageError("ImageInspectError", f'Failed to inspect image "{image_id}": {error}') from error

    def document_bytes(self, image_id: str) -> bytes:
        return (self.root / "configs" / _short(image_id)).read_bytes()

    def add(
        self,
        document: bytes,
        names: Iterable[references.Reference],
        *,
        origin: Origin,
        digest: str = "",
        note: str = "",
    ) -> Image:
        """Stores a configuration and points the names at it; its layers must be here."""
        return self.add_name(document, [str(name) for name in names], origin=origin, digest=digest, note=note)

    def add_name(self, document: bytes, names: list[str], *, origin: Origin, digest: str = "", note: str = "") -> Image:
        """Like `add`, for names that are no references: what podling keeps for itself."""
        image_id = config.digest_of(document)
        self._write("configs", _short(image_id), document)
        entry = {"id": image_id, "origin": origin, "digest": digest, "note": note}
        with self._locked():
            index = self._index()
            index.update(dict.fromkeys(names, entry))
            self._write("", "index.json", orjson.dumps(index, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
        return self._image(names[0] if names else image_id, entry)

    def remove(self, reference: references.Reference) -> bool:
        """Takes the name away; gives whether there was one. `prune` then frees the space."""
        with self._locked():
            index = self._index()
            if index.pop(str(reference), None) is None:
                return False
            self._write("", "index.json", orjson.dumps(index, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
        return True

    def layer(self, diff_id: str) -> Path:
        """Where a layer lies, or would lie."""
        return self.root / "layers" / _short(diff_id)

    def has_layer(self, diff_id: str) -> bool:
        return self.layer(diff_id).is_dir()

    def lowers(self, diff_ids: Iterable[str]) -> tuple[str, ...]:
        """The layers' directories, topmost first, from the order of the configuration (bottom first).

        A layer that occurs twice counts where it is topmost: an overlay takes it only once, and all that the lower one
        has is in the upper one too.
        """
        return tuple(dict.fromkeys(str(self.layer(diff_id)) for diff_id in reversed(tuple(diff_ids))))

    @contextmanager
    def staging(self) -> Generator[Path]:
        """A directory to make something in, on the store's filesystem; what is left in it goes."""
        directory = self.root / "staging" / secrets.token_hex(8)
        directory.mkdir()
        try:
            yield directory
        finally:
            _delete(directory)

    def commit(self, directory: Path, diff_id: str = "") -> str:
        """Makes a staged directory a layer; gives its diffID, which is computed unless it is known."""
        if diff_id:
            size = sum(file.lstat().st_size for file in directory.rglob("*"))
        else:
            packed = layers.pack(directory)
            diff_id, size = packed.diff_id, packed.size
        self._write("sizes", _short(diff_id), str(size).encode())
        try:
            directory.rename(self.layer(diff_id))
        except OSError:
            if not self.has_layer(diff_id):
                raise
            _delete(directory)  # someone else was first: the same digest is the same content
        return diff_id

    def size(self, image_id: str) -> int:
        """Sum of the layers' content in bytes."""
        return sum(self._layer_size(diff_id) for diff_id in self.document(image_id).diff_ids)

    def recall(self, key: str) -> str:
        """What a build step with this key resulted in; empty if unknown or no longer here."""
        try:
            value = (self.root / "cache" / key[:_ID_LENGTH]).read_text()
        except FileNotFoundError:
            return ""
        return value if self.has_layer(value) else ""

    def remember(self, key: str, diff_id: str) -> None:
        self._write("cache", key[:_ID_LENGTH], diff_id.encode())

    def prune(self, *, keep: Iterable[str] = (), cache: bool = False, now: float | None = None) -> int:
        """Deletes what no name leads to and gives the number of layers freed.

        `keep`: ids of images that run. `cache`: forget the build cache too, which otherwise keeps its layers.
        """
        with self._locked():
            return _Sweep(self.root, time.time() if now is None else now).run(
                self._live(keep, cache=cache), cache=cache
            )

    def _live(self, keep: Iterable[str], *, cache: bool) -> set[str]:
        images = {entry["id"] for entry in self._index().values()} | set(keep)
        live = {_short(image) for image in images}
        for image in images:
            live |= {_short(diff_id) for diff_id in self.document(image).diff_ids}
        if not cache:
            live |= {_short(file.read_text()) for file in (self.root / "cache").iterdir()}
        return live

    def _layer_size(self, diff_id: str) -> int:
        try:
            return int((self.root / "sizes" / _short(diff_id)).read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _image(self, name: str, entry: dict[str, Any]) -> Image:
        document = self.document(entry["id"])
        return Image(
            name,
            entry["id"],
            document.config,
            self.lowers(document.diff_ids),
            document.host_base,
            document.host_paths,
            entry.get("digest", ""),
            entry.get("origin", "built"),
            entry.get("note", ""),
        )

    def _index(self) -> dict[str, dict[str, Any]]:
        try:
            return orjson.loads((self.root / "index.json").read_bytes())
        except FileNotFoundError:
            return {}

    def _write(self, directory: str, name: str, data: bytes) -> None:
        """All or nothing: a reader sees the old content or the new."""
        target = self.root / directory / name
        temporary = target.with_name(f".{name}.{secrets.token_hex(4)}")
        temporary.write_bytes(data)
        temporary.replace(target)

    @contextmanager
    def _locked(self) -> Generator[None]:
        descriptor = os.open(self.root / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Sweep:
    root: Path
    now: float

    def run(self, live: set[str], *, cache: bool) -> int:
        if cache:
            for file in (self.root / "cache").iterdir():
                file.unlink()
        freed = self._clear("layers", live)
        self._clear("configs", live)
        self._clear("sizes", live)
        self._clear("staging", set())
        return freed

    def _clear(self, name: str, live: set[str]) -> int:
        dead = [path for path in (self.root / name).iterdir() if path.name not in live and self._is_old(path)]
        for path in dead:
            if path.is_dir():
                _delete(path)
            else:
                path.unlink()
        return len(dead)

    def _is_old(self, path: Path) -> bool:
        """By the change of the inode, which the renaming into place sets, not by the content's times."""
        return self.now - path.lstat().st_ctime > _GRACE


def _delete(tree: Path) -> None:
    """Also what belongs to subordinate ids, which only a user namespace that has them may delete."""
    try:
        layers.remove_tree(tree)
    except PermissionError:
        oneshot.remove_tree(str(tree))


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:_ID_LENGTH]
