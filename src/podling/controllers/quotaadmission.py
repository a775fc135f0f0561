"""Admission by ResourceQuota: a write that would use more than its namespace may is refused, any other is charged.

The charge is written into the quotas' status before the object is stored, at the version that was read, so that two
writes never use the same room; and only when every quota has room. What is charged for a write that fails later is
given back when the controller counts anew. Source: `k8s.io/apiserver/pkg/admission/plugin/resourcequota`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Final
from weakref import WeakValueDictionary

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError, forbidden
from podling.api.quantity import Quantity, of
from podling.api.resources import Write
from podling.controllers import quotausage
from podling.controllers.quotausage import EVENTS, PODS, Usage
from podling.controllers.resourcequota import RESOURCE
from podling.store.types import Object

ATTEMPTS: Final = 20
PAUSE: Final = 0.001
"""Seconds, growing with each attempt: another write's charge is seen only when it is committed."""
_TOLD: Final = ("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
"""Of what a quota limits, the part that containers must say."""


def counts(write: Write) -> bool:
    """Whether a write can change what is used."""
    old, subresource = write.old, write.subresource
    match write.resource.group_resource, write.operation:
        case resource, "CREATE":
            return not subresource and resource not in EVENTS
        case "pods", "UPDATE":
            if subresource == "resize" or old is None:
                return subresource == "resize"
            return not subresource and quotausage.ends_by_itself(old) != quotausage.ends_by_itself(write.new)
        case "persistentvolumeclaims", "UPDATE" if subresource == "status":
            return _granted(old) != _granted(write.new)
        case (("services" | "persistentvolumeclaims" | "resourceclaims.resource.k8s.io"), "UPDATE"):
            return not subresource
        case _:
            return False


def _granted(claim: Object | None) -> tuple[object, set[str]]:
    """What the status of a claim says that counts."""
    storage = meta.part(claim, "status", "allocatedResources").get("storage")
    return storage, quotausage.attributes_classes(claim or {})


def raised(quota: Object, write: Write) -> Usage:
    """By how much a write raises the use of what the quota limits."""
    resource, hard = write.resource.group_resource, meta.part(quota, "status", "hard")
    after = quotausage.usage(resource, write.new, write.now)
    counted = write.old is not None and quotausage.concerns(quota, resource, write.old)
    before = quotausage.usage(resource, write.old, write.now) if write.old is not None and counted else {}
    more = {name: amount.nanos - before.get(name, Quantity(0)).nanos for name, amount in after.items() if name in hard}
    return {name: Quantity(nanos, after[name].format) for name, nanos in more.items() if nanos > 0}


def unspecified(names: Iterable[str], pod: Object) -> str:
    """The amounts that are limited and containers do not tell; `""` if all is told, or the pod tells for all."""
    own = meta.part(pod, "spec", "resources")
    if any(_is_of_pods(name) for kind in ("requests", "limits") for name in meta.part(own, kind)):
        return ""
    problems: list[str] = []
    for name in sorted(n for n in names if n in _TOLD):
        kind, _, resource = name.rpartition(".")
        silent = {
            container["name"]
            for key in ("containers", "initContainers")
            for container in meta.items(pod, "spec", key)
            if resource not in meta.part(container, "resources", kind or "requests")
        }
        if silent:
            problems.append(f"{name} for: {','.join(sorted(silent))}")
    return "; ".join(problems)


def _is_of_pods(name: str) -> bool:
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def charged(quota: Object, more: Usage, *, checked: bool = True) -> Object:
    """The quota's status with more in use. Raises `ValueError` with the reason if that is too much."""
    hard: Mapping[str, str] = meta.part(quota, "status", "hard")
    used = {name: of(text) for name, text in meta.part(quota, "status", "used").items()}
    after = dict(used)
    quotausage.add(after, more)
    exceeded = sorted(name for name in more if checked and after[name].nanos > of(hard[name]).nanos)
    if exceeded:
        limits = {name: of(hard[name]) for name in exceeded}
        raise ValueError(
            f"exceeded quota: {meta.name(quota)}, requested: {_pairs(more, exceeded)}, "
            f"used: {_pairs(used, exceeded)}, limited: {_pairs(limits, exceeded)}"
        )
    return {**meta.status(quota), "used": {name: str(amount) for name, amount in after.items()}}


def _pairs(values: Mapping[str, Quantity], names: Iterable[str]) -> str:
    return ",".join(f"{name}={values.get(name, Quantity(0))}" for name in names)


class QuotaAdmission:
    """The last step of validating admission; `client` is the API server's own, which writes the charges."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __call__(self, write: Write) -> Awaitable[None] | None:
        namespace = write.new["metadata"].get("namespace")
        if not namespace or not self._client.list(RESOURCE, namespace) or not counts(write):
            return None
        return self._charge(write, namespace)

    async def _charge(self, write: Write, namespace: str) -> None:
        lock = self._locks.setdefault(namespace, asyncio.Lock())
        async with lock:  # one after the other, instead of all trying again and again
            names = [meta.name(quota) for quota in self._client.list(RESOURCE, namespace)]
            for attempt in range(ATTEMPTS):
                found = [self._client.get(RESOURCE, namespace, name) for name in names]
                charges = [charge for quota in found if quota is not None and (charge := charge_of(quota, write))]
                if write.dry_run or self._will_fail(write):
                    return
                names = await self._written(charges, last=attempt == ATTEMPTS - 1)
                if not names:
                    return
                await asyncio.sleep(PAUSE * (attempt + 1))

    async def _written(self, charges: Sequence[Object], *, last: bool) -> list[str]:
        """Writes the charges; names the quotas that somebody else has written meanwhile. Raises ApiError."""
        again: list[str] = []
        for quota in charges:
            try:
                await self._client.update_status(RESOURCE, quota)
            except ApiError as error:
                if error.reason != "Conflict" or last:
                    raise
                again.append(meta.name(quota))
        return again

    def _will_fail(self, write: Write) -> bool:
        """Whether a create will meet an object of its name: it is judged, but must not use anything up."""
        if write.old is not None:
            return False
        return write.reader.get(write.resource.group_resource, meta.namespace(write.new), write.name) is not None


def charge_of(quota: Object, write: Write) -> Object | None:
    """The quota with the write charged to it; `None` where it costs nothing. Raises ApiError where it is too much."""
    resource = write.resource.group_resource
    if not quotausage.concerns(quota, resource, write.new):
        return None
    names = [name for name in meta.part(quota, "status", "hard") if quotausage.limits(resource, name)]
    if resource == PODS and (problems := unspecified(names, write.new)):
        raise _refused(write, f"failed quota: {meta.name(quota)}: must specify {problems}")
    if not set(names) <= meta.part(quota, "status", "used").keys():
        listed = ",".join(sorted(names))
        raise _refused(write, f"status unknown for quota: {meta.name(quota)}, resources: {listed}")
    more = raised(quota, write)
    if not more:
        return None
    try:
        return {**quota, "status": charged(quota, more, checked=write.subresource != "status")}
    except ValueError as problem:
        raise _refused(write, str(problem)) from None


def _refused(write: Write, why: str) -> ApiError:
    return forbidden(write.resource.plural, write.resource.group, write.called, why)
