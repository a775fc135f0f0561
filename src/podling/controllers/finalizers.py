"""Writing the finalizers of an object."""

from __future__ import annotations

from collections.abc import Iterable

from podling.api import meta
from podling.controllers.actions import Patch
from podling.store.types import Object


def set_finalizers(resource: str, obj: Object, finalizers: Iterable[str], why: str) -> Patch:
    """Makes these the object's finalizers; refused where somebody else has changed it meanwhile, perhaps them."""
    metadata: Object = {
        "uid": meta.uid(obj),
        "resourceVersion": meta.metadata(obj).get("resourceVersion"),
        "finalizers": [*finalizers] or None,
    }
    return Patch(
        why=why,
        resource=resource,
        namespace=meta.namespace(obj),
        name=meta.name(obj),
        patch={"metadata": metadata},
    )
