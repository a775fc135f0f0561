"""The node authorizer: a kubelet reads what the pods on its node need, and nothing else of the kind.

What every kubelet may do (register, tell status, renew its lease) is the role `system:node`; of secrets, config maps,
claims, volumes and tokens it only gets those that a pod bound to it names. It comes before RBAC, which may allow more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from podling.api import meta
from podling.api.gotext import quoted
from podling.api.requests import Attributes, Authorize, Decision
from podling.api.resources import Reader, User
from podling.auth.identities import LEASES, node_of
from podling.auth.rbac import Rule, allows
from podling.kinds.core.podannotations import MIRROR
from podling.store.types import Object

ROLE = "system:node"
UNRELATED = "no relationship found between node '{}' and this object"
Reference = tuple[str, str]
"""(resource, name), in the pod's namespace."""


class NodeAuthorizer:
    """Callable as `Authorize`; `rules` are those of the role `system:node`, `otherwise` decides about all others."""

    def __init__(self, reader: Reader, rules: Sequence[Rule], otherwise: Authorize) -> None:
        self._reader = reader
        self._rules = rules
        self._otherwise = otherwise

    def __call__(self, user: User, attributes: Attributes) -> Decision:
        node = node_of(user)
        if node is None:
            return self._otherwise(user, attributes)
        own = self._decide(node, attributes) if node else Decision(False, f"unknown node for user {quoted(user.name)}")
        if own.allowed:
            return own
        other = self._otherwise(user, attributes)
        return other if other.allowed else Decision(False, "\n".join(filter(None, (own.reason, other.reason))))

    def _decide(self, node: str, asked: Attributes) -> Decision:
        match asked.group, asked.resource:
            case "", "secrets" | "configmaps":
                return self._read(node, asked)
            case "", "persistentvolumeclaims" if asked.subresource == "status":
                return self._claim_status(node, asked)
            case ("", "persistentvolumeclaims" | "persistentvolumes"):
                return self._get(node, asked)
            case ("resource.k8s.io", "resourceclaims") | ("storage.k8s.io", "volumeattachments"):
                return self._get(node, asked)
            case "", "serviceaccounts":
                return self._service_account(node, asked)
            case "coordination.k8s.io", "leases":
                return _lease(node, asked)
            case "storage.k8s.io", "csinodes":
                return _csi_node(node, asked)
            case "resource.k8s.io", "resourceslices":
                return self._slice(node, asked)
            case "", "nodes":
                return _node(node, asked)
            case "", "pods":
                return self._pod(node, asked)
            case _:
                return Decision(any(allows(rule, asked) for rule in self._rules))

    def _read(self, node: str, asked: Attributes) -> Decision:
        if asked.verb not in ("get", "list", "watch"):
            return Decision(False, "can only read resources of this type")
        if asked.subresource:
            return Decision(False, "cannot read subresource")
        if not asked.namespace:
            return Decision(False, "can only read namespaced object of this type")
        return self._related(node, asked)

    def _get(self, node: str, asked: Attributes) -> Decision:
        if asked.verb != "get":
            return Decision(False, "can only get individual resources of this type")
        if asked.subresource:
            return Decision(False, "cannot get subresource")
        return self._related(node, asked)

    def _claim_status(self, node: str, asked: Attributes) -> Decision:
        if asked.verb not in ("update", "patch"):
            return Decision(False, "can only get/update/patch this type")
        return self._related(node, asked)

    def _service_account(self, node: str, asked: Attributes) -> Decision:
        if asked.verb == "get" and not asked.subresource:
            return self._read(node, asked)
        if asked.verb != "create" or not asked.name:
            return Decision(False, "can only create tokens for individual service accounts")
        if asked.subresource != "token":
            return Decision(False, "can only create token subresource of serviceaccount")
        return self._related(node, asked)

    def _slice(self, node: str, asked: Attributes) -> Decision:
        if asked.subresource:
            return Decision(False, "cannot authorize ResourceSlice subresources")
        match asked.verb:
            case "create":
                return Decision(True)
            case "get" | "update" | "patch" | "delete":
                return self._related(node, asked)
            case "watch" | "list" | "deletecollection":
                if _selects(asked, "spec.nodeName", node):
                    return Decision(True)
                return Decision(
                    False, "can only list/watch/deletecollection resourceslices with nodeName field selector"
                )
            case _:
                verbs = "get, watch, list, create, update, patch, delete, deletecollection"
                return Decision(False, f"only the following verbs are allowed for a ResourceSlice: {verbs}")

    def _pod(self, node: str, asked: Attributes) -> Decision:
        match asked.subresource, asked.verb:
            case "", "get":
                return self._related(node, asked)
            case "", "list" | "watch":
                if _selects(asked, "spec.nodeName", node):
                    return Decision(True)
                if asked.name:
                    return self._related(node, asked)
                return Decision(False, "can only list/watch pods with spec.nodeName field selector")
            case ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create"):
                return Decision(True)
            case _:
                return Decision(False)

    def _related(self, node: str, asked: Attributes) -> Decision:
        if not asked.name:
            return Decision(False, "No Object name found")
        related = self._leads_to(node, asked)
        return Decision(related, "" if related else UNRELATED.format(node))

    def _leads_to(self, node: str, asked: Attributes) -> bool:
        namespace, name = asked.namespace, asked.name
        match asked.resource:
            case "pods":
                return self._node_of("pods", namespace, name) == node
            case "resourceslices" | "volumeattachments":
                return self._node_of(f"{asked.resource}.{asked.group}", "", name) == node
            case "persistentvolumes":
                return self._mounts(node, self._reader.get("persistentvolumes", "", name))
            case "secrets" if any(self._mounts(node, volume) for volume in self._volumes_with(namespace, name)):
                return True
            case resource:
                return self._names(node, namespace, (resource, name))

    def _node_of(self, resource: str, namespace: str, name: str) -> str:
        return meta.part(self._reader.get(resource, namespace, name), "spec").get("nodeName", "")

    def _mounts(self, node: str, volume: Object | None) -> bool:
        """A volume is a pod's by way of the claim that it is bound to."""
        claim = meta.part(volume, "spec", "claimRef")
        return bool(claim) and self._names(node, claim["namespace"], ("persistentvolumeclaims", claim["name"]))

    def _volumes_with(self, namespace: str, secret: str) -> Iterator[Object]:
        volumes = self._reader.list("persistentvolumes")
        return (volume for volume in volumes if (namespace, secret) in _volume_secrets(volume))

    def _names(self, node: str, namespace: str, wanted: Reference) -> bool:
        return any(wanted in references(pod) for pod in self._pods(node, namespace))

    def _pods(self, node: str, namespace: str) -> Iterator[Object]:
        """Without mirror pods: a kubelet makes those itself, so they must not give it anything."""
        for pod in self._reader.list("pods", namespace):
            if meta.spec(pod).get("nodeName") == node and MIRROR not in meta.annotations(pod):
                yield pod


OWN_VERBS = ("get", "create", "update", "patch", "delete")


def _lease(node: str, asked: Attributes) -> Decision:
    if asked.verb not in OWN_VERBS:
        return Decision(False, "can only get, create, update, patch, or delete a node lease")
    if asked.namespace != LEASES:
        return Decision(False, f'can only access leases in the "{LEASES}" system namespace')
    if asked.verb != "create" and asked.name != node:
        return Decision(False, "can only access node lease with the same name as the requesting node")
    return Decision(True)


def _csi_node(node: str, asked: Attributes) -> Decision:
    if asked.verb not in OWN_VERBS:
        return Decision(False, "can only get, create, update, patch, or delete a CSINode")
    if asked.subresource:
        return Decision(False, "cannot authorize CSINode subresources")
    if asked.verb != "create" and asked.name != node:
        return Decision(False, "can only access CSINode with the same name as the requesting node")
    return Decision(True)


def _node(node: str, asked: Attributes) -> Decision:
    match asked.subresource, asked.verb:
        case ("", "create" | "update" | "patch") | ("status", "update" | "patch"):
            return Decision(True)
        case "", "get" | "list" | "watch":
            if asked.name == node:
                return Decision(True)
            what = f"read '{asked.name}'" if asked.name else "read all nodes"
            return Decision(False, f"node '{node}' cannot {what}, only its own Node object")
        case _:
            return Decision(False)


def _selects(asked: Attributes, field: str, value: str) -> bool:
    return any(term.field == field and term.equal and term.value == value for term in asked.fields)


def references(pod: Object) -> Iterator[Reference]:
    """What a pod names and its kubelet has to read."""
    spec = meta.spec(pod)
    yield "serviceaccounts", spec.get("serviceAccountName", "")
    for secret in meta.items(spec, "imagePullSecrets"):
        yield "secrets", secret.get("name", "")
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for container in meta.items(spec, key):
            yield from _of_environment(container)
    for volume in meta.items(spec, "volumes"):
        yield from _of_volume(volume, meta.name(pod))
    for claim in _device_claims(pod):
        yield "resourceclaims", claim


def _device_claims(pod: Object) -> Iterator[str]:
    made = {
        status["name"]: status.get("resourceClaimName") for status in meta.items(pod, "status", "resourceClaimStatuses")
    }
    for entry in meta.items(pod, "spec", "resourceClaims"):
        if name := entry.get("resourceClaimName") or made.get(entry["name"]):
            yield name
    if name := meta.part(pod, "status", "extendedResourceClaimStatus").get("resourceClaimName"):
        yield name


def _of_environment(container: Object) -> Iterator[Reference]:
    sources = [meta.part(variable, "valueFrom") for variable in meta.items(container, "env")]
    for source in (*sources, *meta.items(container, "envFrom")):
        for resource, fields in (("secrets", ("secretKeyRef", "secretRef")), ("configmaps", _CONFIG_MAP_FIELDS)):
            for field in fields:
                if name := meta.part(source, field).get("name"):
                    yield resource, name


_CONFIG_MAP_FIELDS = ("configMapKeyRef", "configMapRef")


def _of_volume(volume: Object, pod: str) -> Iterator[Reference]:
    if name := meta.part(volume, "secret").get("secretName"):
        yield "secrets", name
    if name := meta.part(volume, "configMap").get("name"):
        yield "configmaps", name
    if name := meta.part(volume, "persistentVolumeClaim").get("claimName"):
        yield "persistentvolumeclaims", name
    if volume.get("ephemeral") is not None:
        yield "persistentvolumeclaims", f"{pod}-{volume['name']}"
    for field in ("csi", "flexVolume", "iscsi", "rbd", "cephfs", "cinder", "scaleIO", "storageos", "azureFile"):
        yield from _of_driver(meta.part(volume, field))
    for source in meta.items(volume, "projected", "sources"):
        for resource, field in (("secrets", "secret"), ("configmaps", "configMap")):
            if name := meta.part(source, field).get("name"):
                yield resource, name


def _of_driver(source: Object) -> Iterator[Reference]:
    for field in ("secretRef", "nodePublishSecretRef"):
        if name := meta.part(source, field).get("name"):
            yield "secrets", name
    if name := source.get("secretName"):
        yield "secrets", name


_STAGING = ("secretRef", "nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef")


def _volume_secrets(volume: Object) -> Iterator[tuple[str, str]]:
    """Namespace and name of the secrets that a kubelet needs to mount a volume."""
    spec = meta.spec(volume)
    home = meta.part(spec, "claimRef").get("namespace", "")
    for source in (cast(Object, part) for part in spec.values() if isinstance(part, dict)):
        for field in _STAGING:
            secret = meta.part(source, field)
            if name := secret.get("name"):
                yield secret.get("namespace") or home, name
        if name := source.get("secretName"):
            yield source.get("secretNamespace") or home, name
