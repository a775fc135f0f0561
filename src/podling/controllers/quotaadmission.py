"""Admission by ResourceQuota: a write that would use more than its namespace may is refused, any other is charged.

The charge is written into the quotas' status before the object is stored, at the version that was read, so that two
writes never use the same room. What is charged for a write that fails later is given back when the controller counts
anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from weakref import WeakValueDictionary

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError, forbidden
from podling.api.podresources import Amounts, add
from podling.api.quantity import Quantity, of
from podling.api.resources import Write
from podling.controllers.resourcequota import (
    ONE,
    RESOURCE,
    claim_usage,
    in_scope,
    pod_usage,
    service_usage,
)
from podling.store.types import Object

ATTEMPTS = 20
PAUSE = 0.001
"""Seconds, growing with each attempt: another write's charge is seen only when it is committed."""
_COMPUTE = ("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")


def usage(resource: str, obj: Object) -> Amounts:
    """What one object of the resource adds, under every name that a quota may use."""
    total: Amounts = {resource: ONE, f"count/{resource}": ONE}
    match resource:
        case "pods":
            total |= pod_usage(obj)
        case "services":
            add(total, service_usage(obj))
        case "persistentvolumeclaims":
            add(total, claim_usage(obj))
        case _:
            pass
    return total


def increase(resource: str, old: Object | None, new: Object) -> Amounts:
    """By how much a write raises the use of each resource."""
    after = usage(resource, new)
    before = usage(resource, old) if old is not None else {}
    raised = {name: amount - before.get(name, 0) for name, amount in after.items()}
    return {name: amount for name, amount in raised.items() if amount > 0}


def unspecified(quota: Object, pod: Object) -> str:
    """The amounts that the quota demands and containers do not tell; `""` if all is told."""
    hard: Mapping[str, str] = meta.part(quota, "status", "hard")
    problems: list[str] = []
    for name in sorted(n for n in hard if n in _COMPUTE):
        kind, _, resource = name.rpartition(".")
        silent = [
            container["name"]
            for container in _all_containers(pod)
            if resource not in meta.part(container, "resources", kind or "requests")
        ]
        if silent and name not in pod_usage({**pod, "spec": {**meta.spec(pod), "containers": []}}):
            problems.append(f"{name} for: {','.join(sorted(silent))}")
    return "; ".join(problems)


def _all_containers(pod: Object) -> Iterable[Object]:
    return [*meta.items(pod, "spec", "initContainers"), *meta.items(pod, "spec", "containers")]


def charged(quota: Object, raised: Amounts) -> Object:
    """The quota's status with the increase in it. Raises `ValueError` with the reason if that is too much."""
    hard: Mapping[str, str] = meta.part(quota, "status", "hard")
    used: Mapping[str, str] = meta.part(quota, "status", "used")
    concerned = sorted(name for name in raised if name in hard and name in used)
    totals = {name: of(used[name]).nanos + raised[name] for name in concerned}
    exceeded = [name for name in concerned if totals[name] > of(hard[name]).nanos]
    if exceeded:
        requested = {name: str(Quantity(raised[name], of(hard[name]).format)) for name in exceeded}
        raise ValueError(
            f"exceeded quota: {meta.name(quota)}, requested: {_pairs(requested, exceeded)}, "
            f"used: {_pairs(used, exceeded)}, limited: {_pairs(hard, exceeded)}"
        )
    new_used = {name: str(Quantity(totals[name], of(hard[name]).format)) for name in concerned}
    return {**meta.status(quota), "used": {**used, **new_used}}


def _pairs(values: Mapping[str, str], names: Iterable[str]) -> str:
    return ",".join(f"{name}={values[name]}" for name in names)


class QuotaAdmission:
    """The step of validating admission; `client` is the API server's own, which writes the charges."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __call__(self, write: Write) -> Awaitable[None] | None:
        namespace = meta.namespace(write.new)
        if write.operation not in ("CREATE", "UPDATE") or write.subresource or not namespace:
            return None
        quotas = self._client.list(RESOURCE, namespace)
        resource = write.resource.group_resource
        if not quotas or resource == "events":
            return None
        raised = increase(resource, write.old, write.new)
        return self._charge_all(write, quotas, raised) if raised else None

    async def _charge_all(self, write: Write, quotas: Sequence[Object], raised: Amounts) -> None:
        for quota in quotas:
            lock = self._locks.setdefault(meta.uid(quota), asyncio.Lock())
            async with lock:  # one after the other, instead of all trying again and again
                await self._charge(write, meta.name(quota), raised)

    async def _charge(self, write: Write, name: str, raised: Amounts) -> None:
        for attempt in range(ATTEMPTS):
            quota = self._client.get(RESOURCE, meta.namespace(write.new), name)
            if quota is None or not self._concerns(quota, write):
                return
            status = self._checked(write, quota, raised)
            if write.dry_run or status == meta.status(quota) or self._will_fail(write):
                return
            try:
                await self._client.update_status(RESOURCE, {**quota, "status": status})
            except ApiError as error:
                if error.reason != "Conflict" or attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(PAUSE * (attempt + 1))
            else:
                return

    def _will_fail(self, write: Write) -> bool:
        """Whether a create will meet an object of its name: it is judged, but must not use anything up."""
        if write.old is not None:
            return False
        return (
            write.reader.get(write.resource.group_resource, meta.namespace(write.new), meta.name(write.new)) is not None
        )

    def _concerns(self, quota: Object, write: Write) -> bool:
        return (write.resource.group_resource == "pods" and in_scope(quota, write.new)) or not _scoped(quota)

    def _checked(self, write: Write, quota: Object, raised: Amounts) -> Object:
        resource, name = write.resource, meta.name(write.new)
        if resource.group_resource == "pods" and write.old is None:
            problems = unspecified(quota, write.new)
            if problems:
                reason = f"failed quota: {meta.name(quota)}: must specify {problems}"
                raise forbidden(resource.plural, resource.group, name, reason)
        try:
            return charged(quota, raised)
        except ValueError as problem:
            raise forbidden(resource.plural, resource.group, name, str(problem)) from None


def _scoped(quota: Object) -> bool:
    """Quotas with scopes count pods only."""
    return bool(meta.spec(quota).get("scopes") or meta.spec(quota).get("scopeSelector"))
