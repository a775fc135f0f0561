"""The policy that a cluster begins with is made whole at every start, unless somebody said not to.

What is missing is added: rules, subjects, labels. What is too much stays, for it may be wanted.
(k8s.io/component-helpers/auth/rbac/reconciliation)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.auth.bootstrap import AUTO_UPDATE
from podling.auth.rbac import not_covered
from podling.store.types import Object


async def ensure(client: Client, policy: Iterable[tuple[str, Object]]) -> None:
    """`policy` is pairs of a resource and an object. Raises `ApiError` where the API refuses."""
    await asyncio.gather(*(_ensure(client, resource, expected) for resource, expected in policy))


async def _ensure(client: Client, resource: str, expected: Object) -> None:
    existing = client.get(resource, meta.namespace(expected), meta.name(expected))
    if existing is None:
        await _create(client, resource, expected)
        return
    wanted = reconciled(existing, expected)
    if wanted is None:
        return
    if wanted.get("roleRef") == existing.get("roleRef"):
        await client.update(resource, wanted)
        return
    await client.delete(resource, meta.namespace(existing), meta.name(existing), uid=meta.uid(existing))
    await _create(client, resource, wanted)


async def _create(client: Client, resource: str, obj: Object) -> None:
    try:
        await client.create(resource, obj)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


def reconciled(existing: Object, expected: Object) -> Object | None:
    """What a present role or binding should be; `None` where it may stay as it is. A binding of another role is to be
    made anew: that cannot be changed.
    """
    if any(meta.annotations(existing).get(key) == "false" for key in AUTO_UPDATE):
        return None
    if existing.get("roleRef") != expected.get("roleRef"):
        return expected
    metadata = {**meta.metadata(existing)}
    for field in ("annotations", "labels"):
        metadata[field] = {**meta.metadata(expected)[field], **(metadata.get(field) or {})}
    changed = {**existing, "metadata": metadata}
    _complete(changed, "rules", not_covered(meta.items(existing, "rules"), meta.items(expected, "rules")))
    subjects = meta.items(existing, "subjects")
    _complete(changed, "subjects", (s for s in meta.items(expected, "subjects") if s not in subjects))
    _aggregate(changed, expected)
    return changed if changed != existing else None


def _complete(obj: Object, field: str, missing: Iterable[object]) -> None:
    more = list(missing)
    if more:
        obj[field] = [*meta.items(obj, field), *more]


def _aggregate(changed: Object, expected: Object) -> None:
    if expected.get("aggregationRule") is None:
        changed.pop("aggregationRule", None)
        return
    path = ("aggregationRule", "clusterRoleSelectors")
    present = meta.items(changed, *path)
    missing = [selector for selector in meta.items(expected, *path) if selector not in present]
    if missing:
        changed["aggregationRule"] = {"clusterRoleSelectors": [*present, *missing]}
