"""What every namespace is given: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Create, Update
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, looking, service_account
from podling.store.types import Change, Object

DEFAULT = "default"
ROOT_CA = "kube-root-ca.crt"
DESCRIPTION = "kubernetes.io/description"
_ROOT_CA_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    namespace: str
    present: Object | None


def _observer(resource: str, name: str) -> Callable[[Client, ObjectKey], Snapshot | None]:
    def observe(client: Client, key: ObjectKey) -> Snapshot | None:
        namespace = client.get("namespaces", "", key.name)
        if namespace is None or meta.deleting(namespace):
            return None
        return Snapshot(namespace=key.name, present=client.get(resource, key.name, name))

    return observe


def _of_named(name: str) -> Callable[[Client, Change], Iterable[ObjectKey]]:
    def keys(_client: Client, change: Change) -> Iterable[ObjectKey]:
        if change.entry.key.name == name and change.type != "ADDED":
            yield ObjectKey("", change.entry.key.namespace)

    return keys


def decide_account(snapshot: Snapshot, _now: datetime) -> list[Action]:
    if snapshot.present is not None:
        return []
    account: Object = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": DEFAULT, "namespace": snapshot.namespace},
    }
    why = "every namespace has a default service account"
    return [Create(why=why, resource="serviceaccounts", object=account, exists_ok=True)]


def decide_root_ca(snapshot: Snapshot, certificate: str) -> list[Action]:
    data = {"ca.crt": certificate}
    present = snapshot.present
    if present is None:
        metadata = {
            "name": ROOT_CA,
            "namespace": snapshot.namespace,
            "annotations": {DESCRIPTION: _ROOT_CA_DESCRIPTION},
        }
        new: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        why = "pods verify the API server with it"
        return [Create(why=why, resource="configmaps", object=new, exists_ok=True)]
    annotations = meta.annotations(present)
    if present.get("data") == data and annotations.get(DESCRIPTION) == _ROOT_CA_DESCRIPTION:
        return []
    metadata = {**present["metadata"], "annotations": {**annotations, DESCRIPTION: _ROOT_CA_DESCRIPTION}}
    changed = {**present, "metadata": metadata, "data": data}
    return [Update(why="it was changed", resource="configmaps", object=changed)]


def default_account() -> Controller:
    return Controller(
        name="serviceaccount-controller",
        user=service_account("service-account-controller"),
        resource="namespaces",
        watches=(
            Watch(resource="namespaces", keys=itself),
            Watch(resource="serviceaccounts", keys=_of_named(DEFAULT)),
        ),
        reconcile=looking(_observer("serviceaccounts", DEFAULT), decide_account),
    )


def root_ca_publisher(certificate: str) -> Controller:
    """`certificate` is the cluster's CA in PEM."""

    def decide(snapshot: Snapshot, _now: datetime) -> list[Action]:
        return decide_root_ca(snapshot, certificate)

    return Controller(
        name="root-ca-certificate-publisher",
        user=service_account("root-ca-cert-publisher"),
        resource="namespaces",
        watches=(Watch(resource="namespaces", keys=itself), Watch(resource="configmaps", keys=_of_named(ROOT_CA))),
        reconcile=looking(_observer("configmaps", ROOT_CA), decide),
    )
