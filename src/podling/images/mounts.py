"""RUN --mount: what a step sees for its own time only."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from podling.images import copying, layers, view
from podling.images.copying import Attributes
from podling.images.view import Tree
from podling.sandbox.spec import Mount


@dataclass(frozen=True, slots=True)
class BuildMount:
    """What of a mount belongs to the step's cache key, and how to make it in a directory of the step's own."""

    key: str
    bind: Callable[[Path], Mount]


def tmpfs_mount(options: Mapping[str, str], working_dir: str) -> BuildMount:
    target = _target(options, working_dir)
    return BuildMount("", lambda _: {"target": target, "type": "tmpfs"})


def cache_mount(options: Mapping[str, str], working_dir: str, caches: Path) -> BuildMount:
    """Kept between builds, shared by all that name the same id; its content is no part of the cache key.

    Raises `ValueError` for a mode or an owner that is no number.
    """
    mode = int(options.get("mode", "0755"), 8)
    uid, gid = int(options.get("uid", "0")), int(options.get("gid", "0"))
    name = hashlib.sha256((options.get("id") or options["target"]).encode()).hexdigest()[:16]
    directory, target = caches / name, _target(options, working_dir)

    def bind(_: Path) -> Mount:
        if not directory.is_dir():
            directory.mkdir(parents=True)
            directory.chmod(mode)
            layers.set_owner(directory, uid, gid)
        return {"target": target, "type": "bind", "source": str(directory)}

    return BuildMount("", bind)


def bind_mount(options: Mapping[str, str], working_dir: str, tree: Tree, shared: Path) -> BuildMount:
    """A copy, so that `.dockerignore` holds, and what the step writes into it is gone afterwards.

    `shared`: files below it may be linked instead. Raises `copying.NothingMatches`.
    """
    chosen = copying.select(tree, (posixpath.normpath("/" + options.get("source", "")),))
    writable = options.get("rw", options.get("readwrite", "")) == "true"
    target = _target(options, working_dir)

    def bind(directory: Path) -> Mount:
        copy = directory / hashlib.sha256(target.encode()).hexdigest()[:16]
        copy.mkdir(parents=True)
        layer = copying.Layer(copy, view.ImageView([copy]), directory if writable else shared)
        copying.write(tree, chosen, layer, "/content", Attributes())
        return {"target": target, "type": "bind", "source": str(copy / "content"), "read_only": not writable}

    return BuildMount(copying.digest(tree, chosen, ()), bind)


def _target(options: Mapping[str, str], working_dir: str) -> str:
    return posixpath.join(working_dir or "/", options["target"])
