"""Who may play in a transcript, by the names that its first line uses."""

from __future__ import annotations

from collections.abc import Callable

from podling.controllers import endpoints, endpointslice, endpointslicemirroring, replicaset
from podling.controllers.deployment import controller as deployment
from podling.controllers.runtime import Controller

CAST: dict[str, Callable[[], Controller]] = {
    "deployment": deployment.controller,
    "replicaset": replicaset.controller,
    "endpointslice": endpointslice.controller,
    "endpoints": endpoints.controller,
    "mirroring": endpointslicemirroring.controller,
}
