"""A cluster of plain dicts, and writes to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from podling.api.resources import Resource, User, Write
from podling.kinds import builtin
from podling.store.types import Object

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Objects:
    """A `Reader` over a dict of lists."""

    def __init__(self) -> None:
        self.stored: dict[str, list[Object]] = {}

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        for obj in self.stored.get(resource, ()):
            meta = obj["metadata"]
            if (meta.get("namespace", ""), meta["name"]) == (namespace, name):
                return obj
        return None

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]:
        return [o for o in self.stored.get(resource, ()) if namespace in (None, o["metadata"].get("namespace", ""))]


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def kinds() -> dict[str, Resource]:
    """The built-in resources by group resource and version: `pods/v1`, `deployments.apps/v1`."""
    return {f"{r.group_resource}/{r.version}": r for r in builtin()}


Writes = Callable[..., Write]


@pytest.fixture
def writes(objects: Objects) -> Writes:
    """Makes a `Write`, its objects defaulted and prepared as the registry does it."""

    def make(resource: Resource, new: Object, old: Object | None = None, **more: Any) -> Write:
        new.setdefault("metadata", {}).setdefault("name", "x")
        new["metadata"].setdefault("uid", "11111111-1111-1111-1111-111111111111")
        if resource.namespaced:
            new["metadata"].setdefault("namespace", "default")
        resource.strategy.default(new)
        write = Write(
            resource=resource,
            operation="UPDATE" if old else "CREATE",
            new=new,
            old=old,
            user=User("ann", ("system:authenticated",)),
            reader=objects,
            now=NOW,
            **more,
        )
        resource.strategy.prepare(write)
        return write

    return make


@pytest.fixture
def problems(writes: Writes) -> Callable[..., list[str]]:
    """What validation says of a write, as text."""

    def check(resource: Resource, new: Object, old: Object | None = None, **more: Any) -> list[str]:
        write = writes(resource, new, old, **more)
        return list(dict.fromkeys(str(e) for e in resource.strategy.validate(write)))

    return check
