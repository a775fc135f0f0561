"""Sets the extensions of the API in motion."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.api.server import ApiServer
from podling.extensions import mutating, validating
from podling.extensions.aggregation import API_SERVICES, Aggregation
from podling.extensions.caller import Identity
from podling.extensions.definitions import Definitions
from podling.extensions.expressions import Views
from podling.extensions.webhooks import MUTATING, VALIDATING, Webhooks
from podling.store.types import Change, ChangeType, Object

_log = logging.getLogger(__name__)

Tell = Callable[[str, "Object | None"], None]


class Extensions:
    """What users add to the API of a server. `client` writes as the API server itself; `identity` is the certificate
    by which aggregated servers know it."""

    def __init__(self, server: ApiServer, client: Client, identity: Identity | None = None) -> None:
        self._server = server
        self._client = client
        self._tasks: set[asyncio.Task[None]] = set()
        self._definitions = Definitions(server, client, server.registry.clock)
        views = Views(server.registry, server.authorize)
        self._validating = validating.ValidatingPolicies(server.served, views)
        self._mutating = mutating.MutatingPolicies(server.served, views)
        self._webhooks = Webhooks(server.served, views)
        self.aggregation = Aggregation(server, client, identity)
        admission = server.registry.admission
        changing, judging = [self._mutating, self._webhooks.mutate], [self._validating, self._webhooks.validate]
        admission.mutating = [*admission.mutating, *changing]
        admission.validating = [*admission.validating, *judging]
        admission.connecting = [*admission.connecting, *changing, *judging]

    def start(self) -> None:
        """From now on what is in the store is served; needs a running event loop."""
        self._definitions.start()
        self._follow(validating.POLICIES, self._policy_changed)
        self._follow(validating.BINDINGS, self._validating.bound.binding_changed)
        self._follow(mutating.POLICIES, self._mutating.bound.policy_changed)
        self._follow(mutating.BINDINGS, self._mutating.bound.binding_changed)
        self._follow(MUTATING, self._webhooks.mutating_changed)
        self._follow(VALIDATING, self._webhooks.validating_changed)
        self._follow(API_SERVICES, self.aggregation.changed)

    def _follow(self, resource: str, tell: Tell) -> None:
        def changed(change: Change) -> None:
            gone = change.type is ChangeType.DELETED
            tell(change.entry.key.name, None if gone else change.entry.object)

        self._client.subscribe(resource, changed)

    def _policy_changed(self, name: str, obj: Object | None) -> None:
        self._validating.bound.policy_changed(name, obj)
        if obj is not None and meta.status(obj).get("observedGeneration") != meta.generation(obj):
            self._spawn(self._observe(name))

    async def _observe(self, name: str) -> None:
        """Notes in a policy's status that this generation of it has been looked at."""
        policy = self._client.get(validating.POLICIES, "", name)
        if policy is None:
            return
        from podling.extensions.typechecking import warnings  # a cluster without policies never needs it

        found = warnings(policy, self._server.served, self._server.schemas)
        checked = {"expressionWarnings": found} if found else {}
        status: Object = {**meta.status(policy), "observedGeneration": meta.generation(policy), "typeChecking": checked}
        try:
            await self._client.update_status(validating.POLICIES, {**policy, "status": status})
        except ApiError as error:
            if error.code not in (404, 409):
                _log.warning("policy %s: %s", name, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
