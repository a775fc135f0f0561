"""Token secrets: `kubernetes.io/service-account-token` Secrets are filled for their account, and go with it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Delete, Update
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, itself, key_of, service_account
from podling.store.types import Change, Object

SECRET_TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"

Sign = Callable[[Object, Object], str]
"""A token for an account that is bound to a secret: both whole objects in, the token out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    secret: Object
    account: Object | None


def is_token_secret(secret: Object) -> bool:
    return secret.get("type") == SECRET_TYPE and ACCOUNT_NAME in meta.annotations(secret)


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    secret = client.get("secrets", key.namespace, key.name)
    if secret is None or meta.deleting(secret) or not is_token_secret(secret):
        return None
    name = meta.annotations(secret)[ACCOUNT_NAME]
    return Snapshot(secret=secret, account=client.get("serviceaccounts", key.namespace, name))


def decide(snapshot: Snapshot, sign: Sign, root_ca: str) -> list[Action]:
    secret, account = snapshot.secret, snapshot.account
    wanted = meta.annotations(secret).get(ACCOUNT_UID)
    if account is None or wanted not in (None, "", meta.uid(account)):
        return [
            Delete(
                why="its service account is gone",
                resource="secrets",
                namespace=meta.namespace(secret),
                name=meta.name(secret),
                uid=meta.uid(secret),
            )
        ]
    data = meta.part(secret, "data")
    missing = {"ca.crt": _encoded(root_ca)} if data.get("ca.crt") != _encoded(root_ca) else {}
    if not data.get("namespace"):
        missing["namespace"] = _encoded(meta.namespace(secret))
    if not data.get("token"):
        missing["token"] = _encoded(sign(account, secret))
    if not missing:
        return []
    annotations = {**meta.annotations(secret), ACCOUNT_UID: meta.uid(account)}
    metadata = {**secret["metadata"], "annotations": annotations}
    changed = {**secret, "metadata": metadata, "data": {**data, **missing}}
    return [Update(why=f"service account {meta.name(account)} asks for a token", resource="secrets", object=changed)]


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def _of_account(client: Client, change: Change) -> Iterable[ObjectKey]:
    """The token secrets of an account that came or went."""
    if change.type == "MODIFIED":
        return
    for secret in client.list("secrets", change.entry.key.namespace):
        if is_token_secret(secret) and meta.annotations(secret)[ACCOUNT_NAME] == change.entry.key.name:
            yield key_of(secret)


def controller(sign: Sign, root_ca: str) -> Controller:
    async def reconcile(context: Context, key: ObjectKey) -> None:
        snapshot = observe(context.client, key)
        if snapshot is not None:
            await context.act(key, decide(snapshot, sign, root_ca))

    return Controller(
        name="serviceaccount-token-controller",
        user=service_account("tokens-controller"),
        resource="secrets",
        watches=(Watch(resource="secrets", keys=itself), Watch(resource="serviceaccounts", keys=_of_account)),
        reconcile=reconcile,
    )
