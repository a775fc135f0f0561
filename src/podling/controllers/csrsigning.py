"""Certificate signing requests: approved ones of the signers that the cluster has get their certificate."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Patch
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, itself, service_account
from podling.controllers.statuses import replace_condition
from podling.store.types import Object

RESOURCE = "certificatesigningrequests.certificates.k8s.io"


class SigningRefused(Exception):
    """The request does not satisfy its signer; the message says why."""


class Signer(Protocol):
    def sign(self, request: bytes, usages: list[str], seconds: int | None) -> bytes:
        """The certificate (PEM) for a PKCS#10 request (PEM). Raises `SigningRefused`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    request: Object
    signer: Signer


def observe(client: Client, signers: Mapping[str, Signer], key: ObjectKey) -> Snapshot | None:
    request = client.get(RESOURCE, "", key.name)
    if request is None or meta.status(request).get("certificate"):
        return None
    signer = signers.get(meta.spec(request)["signerName"])
    approved = meta.condition_is(request, "Approved")
    refused = meta.condition_is(request, "Denied") or meta.condition_is(request, "Failed")
    if signer is None or not approved or refused:
        return None
    return Snapshot(request=request, signer=signer)


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    """Signing is deterministic work on bytes, so it happens here; only the status is written."""
    spec = meta.spec(snapshot.request)
    try:
        certificate = snapshot.signer.sign(
            b64decode(spec["request"]), list(spec.get("usages") or []), spec.get("expirationSeconds")
        )
    except SigningRefused as refusal:
        failed = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": str(refusal)}
        conditions = replace_condition(
            meta.conditions(snapshot.request), {**failed, "lastUpdateTime": meta.timestamp(now)}, now
        )
        return [_write(snapshot.request, {"conditions": conditions}, str(refusal))]
    return [_write(snapshot.request, {"certificate": b64encode(certificate).decode()}, "it is approved")]


def _write(request: Object, status: Object, why: str) -> Patch:
    return Patch(
        why=why,
        resource=RESOURCE,
        namespace="",
        name=meta.name(request),
        patch={"metadata": {"uid": meta.uid(request)}, "status": status},
        subresource="status",
    )


def controller(signers: Mapping[str, Signer]) -> Controller:
    """`signers` by signer name, e.g. `kubernetes.io/kube-apiserver-client`."""

    async def reconcile(context: Context, key: ObjectKey) -> None:
        snapshot = observe(context.client, signers, key)
        if snapshot is not None:
            await context.act(key, decide(snapshot, context.now()))

    return Controller(
        name="csrsigning-controller",
        user=service_account("certificate-controller"),
        resource=RESOURCE,
        watches=(Watch(resource=RESOURCE, keys=itself),),
        reconcile=reconcile,
    )
