"""Sets the extensions of the API in motion."""

from __future__ import annotations

from podling.api.client import Client
from podling.api.server import ApiServer
from podling.extensions.definitions import Definitions


class Extensions:
    """What users add to the API of a server. `client` writes as the API server itself."""

    def __init__(self, server: ApiServer, client: Client) -> None:
        self._definitions = Definitions(server, client, server.registry.clock)

    def start(self) -> None:
        """From now on what is in the store is served; needs a running event loop."""
        self._definitions.start()
