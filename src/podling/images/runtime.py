"""The images room as the node sees it (`podling.node.interfaces.Images`).

The node asks first what is present, since it writes an event before a pull; what a pull is, and when it is not needed,
is decided in `manager`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from podling.images import references
from podling.images.credentials import Credentials
from podling.images.manager import Images, Policy
from podling.images.store import Image


class HasId(Protocol):
    @property
    def id(self) -> str: ...


class NodeImages:
    """What the daemon hands to the node."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._listed: tuple[int, Sequence[Mapping[str, Any]]] | None = None

    def present(self, reference: str, policy: str) -> Image | None:
        """The image, if it need not be fetched under this policy; raises `ImageError` (InvalidImageName)."""
        return self._images.here(references.parse_image(reference), _policy(policy))

    async def pull(self, reference: str, policy: str, pull_secrets: Sequence[Mapping[str, Any]]) -> Image:
        """Fetches it; raises `ImageError`. `pull_secrets` are decoded `.dockerconfigjson` documents."""
        return await self._images.ensure(reference, _policy(policy), credentials=Credentials(pull_secrets))

    def size(self, image: HasId) -> int:
        """In bytes, of all its layers."""
        return self._images.store.size(image.id)

    def listing(self) -> Sequence[Mapping[str, Any]]:
        """All images as `Node.status.images` shows them, the largest first. Read again when the store has changed."""
        state = self._images.store.state()
        if self._listed is None or self._listed[0] != state:
            self._listed = (state, self._list())
        return self._listed[1]

    def _list(self) -> Sequence[Mapping[str, Any]]:
        names: dict[str, list[str]] = {}
        for image in self._images.list():
            digest = f"{image.reference.rpartition(':')[0]}@{image.digest}"
            names.setdefault(image.id, []).extend([digest, image.reference] if image.digest else [image.reference])
        sizes = {id: self._images.store.size(id) for id in names}
        ordered = sorted(names, key=lambda id: (-sizes[id], names[id]))
        return [{"names": sorted(names[id], key=_digests_first), "sizeBytes": sizes[id]} for id in ordered]


def _digests_first(name: str) -> tuple[bool, str]:
    return "@" not in name, name


def _policy(text: str) -> Policy:
    return "Always" if text == "Always" else "Never" if text == "Never" else "IfNotPresent"
