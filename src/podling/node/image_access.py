"""The images room as the node asks it: one small adapter, so that neither has to know the other's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from podling.images import references
from podling.images.manager import Images, Policy, credentials_from
from podling.images.store import Image
from podling.node import interfaces


class ImageAccess:
    """Fits `interfaces.Images`."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def present(self, reference: str, policy: str) -> Image | None:
        return self._images.here(references.parse_image(reference), cast(Policy, policy))

    async def pull(self, reference: str, policy: str, pull_secrets: Sequence[Mapping[str, Any]]) -> Image:
        return await self._images.ensure(reference, cast(Policy, policy), credentials=credentials_from(pull_secrets))

    def size(self, image: interfaces.Image) -> int:
        return self._images.store.size(image.id)
