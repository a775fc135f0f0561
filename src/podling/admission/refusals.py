"""How a plugin refuses a write: 403, in its own words behind Kubernetes' usual ones."""

from __future__ import annotations

from podling.api.errors import ApiError, forbidden
from podling.api.resources import Write


def refuse(write: Write, why: str) -> ApiError:
    return forbidden(write.resource.plural, write.resource.group, write.called, why)
