"""Certificate signing requests: what a kubelet may have without being asked is approved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Patch
from podling.controllers.csrsigning import RESOURCE
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, looking, service_account
from podling.store.types import Object

Approve = Callable[[Object], str]
"""Why a request is approved, in a sentence; `""` where somebody else has to decide."""


def observe(client: Client, key: ObjectKey) -> Object | None:
    request = client.get(RESOURCE, "", key.name)
    if request is None or meta.status(request).get("certificate"):
        return None
    decided = {condition["type"] for condition in meta.conditions(request)} & {"Approved", "Denied"}
    return None if decided else request


def decide(request: Object, approve: Approve) -> list[Action]:
    message = approve(request)
    if not message:
        return []
    approved = {"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}
    return [
        Patch(
            why=message,
            resource=RESOURCE,
            namespace="",
            name=meta.name(request),
            patch={
                "metadata": {"uid": meta.uid(request)},
                "status": {"conditions": [*meta.conditions(request), approved]},
            },
            subresource="approval",
        )
    ]


def controller(approve: Approve) -> Controller:
    def approving(request: Object, _now: datetime) -> list[Action]:
        return decide(request, approve)

    return Controller(
        name="csrapproving-controller",
        user=service_account("certificate-controller"),
        resource=RESOURCE,
        watches=(Watch(resource=RESOURCE, keys=itself),),
        reconcile=looking(observe, approving),
    )
