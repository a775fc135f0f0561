"""A namespace to be admitted to: objects by resource, and writes on their way to the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from podling import kinds
from podling.api import meta
from podling.api.errors import ApiError
from podling.api.resources import Resource, User, Write
from podling.store.types import Object

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ALICE = User("alice", ("system:authenticated",))


@dataclass
class Cluster:
    """What is stored already; also a `Reader`."""

    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict[tuple[str, str, str], Object])
    resources: dict[str, Resource] = field(
        default_factory=lambda: {r.group_resource: r for r in reversed(kinds.builtin())}
    )

    def add(self, resource: str, obj: Object) -> Object:
        self.objects[resource, meta.namespace(obj), meta.name(obj)] = obj
        return obj

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((resource, namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]:
        return [o for (r, n, _), o in self.objects.items() if r == resource and namespace in (None, n)]

    def write(self, resource: str, new: Object, old: Object | None = None, **options: Any) -> Write:
        """A create, or with `old` an update, that owns its object."""
        settings: dict[str, Any] = {"user": ALICE, "operation": "CREATE" if old is None else "UPDATE", **options}
        return Write(
            resource=self.resources[resource],
            new=orjson.loads(orjson.dumps(new)),
            old=old,
            reader=self,
            now=NOON,
            **settings,
        )


def pod(name: str = "web", *containers: Object, **spec: Any) -> Object:
    """A pod in the namespace `shop`, by default with the container `app`."""
    metadata = {"name": name, "namespace": "shop"}
    return {"kind": "Pod", "metadata": metadata, "spec": {"containers": [*containers] or [{"name": "app"}], **spec}}


def refusal(step: Callable[[Write], object], write: Write) -> str:
    """The message with which the step refuses the write."""
    with pytest.raises(ApiError) as refused:
        step(write)
    return refused.value.message
