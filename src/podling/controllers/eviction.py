"""The eviction subresource of pods: a deletion that asks the disruption budgets first.

The rule is `disruption.judge`; this carries its answer out. A budget is charged before the pod is deleted, with the
version that was judged, so that two evictions never spend the same allowance.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any

from podling.api import meta
from podling.api.client import Client
from podling.api.creators import SUCCESS, Creator
from podling.api.errors import ApiError, bad_request, not_found
from podling.api.registry import Registry
from podling.api.requests import Call
from podling.api.resources import Resource
from podling.controllers import disruption
from podling.store.types import Object

ATTEMPTS = 20
"""How often a decision is made anew because a budget or the pod changed meanwhile."""
PAUSE = 0.001
"""Seconds, growing with each attempt: another's write is seen only when it is committed."""


def resource() -> Resource:
    return Resource(
        group="policy",
        version="v1",
        kind="Eviction",
        plural="evictions",
        singular="eviction",
        namespaced=True,
        schema="io.k8s.api.policy.v1.Eviction",
        verbs=frozenset({"create"}),
    )


def creator(registry: Registry, client: Client) -> Creator:
    """Evicts pods of `registry`; `client` is the API server's own, which writes budgets and conditions."""

    async def evict(namespace: str, name: str, eviction: Object, call: Call) -> Object:
        if meta.name(eviction) not in ("", name):
            raise bad_request("name in URL does not match name in Eviction object")
        if meta.part(eviction, "deleteOptions").get("dryRun"):
            call = replace(call, dry_run=True)
        for attempt in range(ATTEMPTS):
            try:
                await _evict_once(registry, client, namespace, name, eviction, call)
            except ApiError as error:
                if error.reason != "Conflict" or attempt == ATTEMPTS - 1 or _has_preconditions(eviction):
                    raise
                await asyncio.sleep(PAUSE * (attempt + 1))
            else:
                break
        return SUCCESS

    return Creator(resource(), evict)


def _has_preconditions(eviction: Object) -> bool:
    return bool(meta.part(eviction, "deleteOptions", "preconditions"))


async def _evict_once(
    registry: Registry, client: Client, namespace: str, name: str, eviction: Object, call: Call
) -> None:
    pod = client.get("pods", namespace, name)
    if pod is None:
        raise not_found("pods", "", name)
    now = registry.clock()
    budgets = disruption.budgets_of(pod, client.list(disruption.RESOURCE, namespace))
    match disruption.judge(pod, budgets, now):
        case disruption.Refused(error=error):
            raise error
        case disruption.Allowed(budget=budget):
            await _delete(registry, client, pod, budget, eviction, call, now)


async def _delete(
    registry: Registry,
    client: Client,
    pod: Object,
    budget: Object | None,
    eviction: Object,
    call: Call,
    now: datetime,
) -> None:
    pods = registry.served.by_name("pods")
    assert pods is not None, "pods are always served"
    if not call.dry_run:
        if budget is not None:
            await client.update_status(disruption.RESOURCE, budget)
        await _mark(client, pod, now)
    options: dict[str, Any] = {
        key: value
        for key, value in meta.part(eviction, "deleteOptions").items()
        if key not in ("kind", "apiVersion", "dryRun")
    }
    options.setdefault("preconditions", {"uid": meta.uid(pod)})
    await registry.delete(pods, meta.namespace(pod), meta.name(pod), options, call)


async def _mark(client: Client, pod: Object, now: datetime) -> None:
    """Tells on the pod why it goes."""
    condition: Object = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": meta.timestamp(now),
    }
    patch: Object = {"metadata": {"uid": meta.uid(pod)}, "status": {"conditions": [condition]}}
    await client.patch("pods", meta.namespace(pod), meta.name(pod), patch, subresource="status", strategic=True)
