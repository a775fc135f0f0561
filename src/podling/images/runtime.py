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

    def present(self, reference: str, policy: str) -> Image | None:
        """The image, if it need not be fetched under this policy; raises `ImageError` (InvalidImageName)."""
        return self._images.here(references.parse_image(reference), _policy(policy))

    async def pull(self, reference: str, policy: str, pull_secrets: Sequence[Mapping[str, Any]]) -> Image:
        """Fetches it; raises `ImageError`. `pull_secrets` are decoded `.dockerconfigjson` documents."""
        return await self._images.ensure(reference, _policy(policy), credentials=Credentials(pull_secrets))

    def size(self, image: HasId) -> int:
        """In bytes, of all its layers."""
        return self._images.store.size(image.id)


def _policy(text: str) -> Policy:
    return "Always" if text == "Always" else "Never" if text == "Never" else "IfNotPresent"
