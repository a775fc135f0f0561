"""The images room as the node sees it (`podling.node.interfaces.Images`): find, pull, size.

The node decides by itself when a pull is due (it also writes the events); an image that was built here, or that the
host stands in for without a registry being asked again, is found rather than pulled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from podling.images import references
from podling.images.credentials import Credentials
from podling.images.manager import Images, Policy
from podling.images.store import Image


@dataclass(frozen=True, slots=True)
class RunnableImage:
    """An image with its configuration in OCI's own field names."""

    id: str
    config: Mapping[str, Any]
    lowers: Sequence[str]
    host_base: bool
    host_paths: Sequence[str]
    reference: str
    digest: str
    note: str


class NodeImages:
    """What the daemon hands to the node."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def present(self, reference: str, policy: str) -> RunnableImage | None:
        """The image, if it need not be fetched under this policy; raises `ImageError` (InvalidImageName)."""
        image = self._images.here(references.parse_image(reference), _policy(policy))
        return self._runnable(image) if image else None

    async def pull(self, reference: str, policy: str, pull_secrets: Sequence[Mapping[str, Any]]) -> RunnableImage:
        """Fetches it; raises `ImageError`."""
        image = await self._images.ensure(reference, _policy(policy), credentials=Credentials(pull_secrets))
        return self._runnable(image)

    def size(self, image: HasId) -> int:
        """In bytes, of all its layers."""
        return self._images.store.size(image.id)

    def _runnable(self, image: Image) -> RunnableImage:
        document = orjson.loads(self._images.store.document_bytes(image.id))
        return RunnableImage(
            image.id,
            document.get("config") or {},
            image.lowers,
            image.host_base,
            image.host_paths,
            image.reference,
            image.digest,
            image.note,
        )


class HasId(Protocol):
    @property
    def id(self) -> str: ...


def _policy(text: str) -> Policy:
    return "Always" if text == "Always" else "Never" if text == "Never" else "IfNotPresent"
