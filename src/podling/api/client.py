"""How controllers, scheduler, node and network talk to the cluster: in process, without HTTP, by the same path.

A write through a `Client` is defaulted, validated, admitted and committed exactly as a request is; reads are
answered from the committed state in memory. Resources are named as Kubernetes' GroupResource strings:
`pods`, `deployments.apps`. What reads return is shared: build a new object instead of changing it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from podling.api.resources import Reader, Resource
from podling.store.types import Change, Object


class Subscription(Protocol):
    """A running watch in process; `close()` ends it, after which the handler is not called again."""

    def close(self) -> None: ...


class Client(Reader, Protocol):
    """One component's hands. Every method that writes raises `podling.api.errors.ApiError`."""

    def owned(self, uid: str) -> Sequence[tuple[str, Object]]:
        """The objects with an owner reference to `uid`, each with its resource: `("pods", {...})`."""
        ...

    def resources(self) -> Sequence[Resource]:
        """What is served at this moment, custom resources included: one entry for each stored resource."""
        ...

    def subscribe(self, resource: str, handler: Callable[[Change], None]) -> Subscription:
        """Calls `handler` with every present object as ADDED, then with each change right after its commit.

        `"*"` is every resource, also those that come to be served later; `change.entry.key.resource` tells which. A
        custom resource (`plural.group`) need not be served yet.
        The handler runs on the event loop and must not block; what it raises is logged, not passed on.
        """
        ...

    async def create(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        """Creates `obj`; `metadata.namespace` says where. Returns it as stored.

        With a subresource (`binding`, `eviction`, `token`): POST to that of the object `metadata.name`.
        """
        ...

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        """Replaces the object; with a `metadata.resourceVersion` that is not the newest: 409 Conflict."""
        ...

    async def update_status(self, resource: str, obj: Object) -> Object:
        """`update(..., subresource="status")`: only `status` is taken."""
        ...

    async def patch(
        self,
        resource: str,
        namespace: str,
        name: str,
        patch: Object | list[Object],
        *,
        subresource: str = "",
        strategic: bool = False,
    ) -> Object:
        """A JSON merge patch (a dict), a strategic merge patch, or a JSON patch (a list)."""
        ...

    async def delete(
        self,
        resource: str,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
        grace_seconds: int | None = None,
    ) -> Object:
        """Deletes, or begins to (grace period, finalizers). Returns the last state."""
        ...


class EventRecorder(Protocol):
    """Writes `Event` objects (events.k8s.io), joined into series as client-go's recorder does. Never raises."""

    def __call__(
        self, regarding: Object, type: str, reason: str, message: str, *, field_path: str = "", action: str = ""
    ) -> None:
        """`regarding` is the whole object (its kind, name, uid are read); `type` is Normal or Warning;
        `field_path` is the event's `involvedObject.fieldPath`, e.g. `spec.containers{app}`.

        With an `action` (`Binding`) the event is written as the events.k8s.io recorder does it: `eventTime`,
        `reportingComponent` and no `source`; only the scheduler does so."""
        ...
