"""How a plugin refuses a write: 403, in its own words behind Kubernetes' usual ones."""

from __future__ import annotations

from podling.api import meta
from podling.api.errors import ApiError, forbidden
from podling.api.resources import Write


def refuse(write: Write, why: str) -> ApiError:
    """An object that is still without a name is called by the beginning of the one it will get."""
    name = write.name or meta.metadata(write.new).get("generateName", "")
    return forbidden(write.resource.plural, write.resource.group, name, why)
