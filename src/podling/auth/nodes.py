"""The node authorizer: a kubelet reads what the pods on its node need, and nothing else of the kind.

What every kubelet may do (register, tell status, renew its lease) is the role `system:node`; of secrets, config maps,
claims, volumes and tokens it only gets those that a pod bound to it names. It comes before RBAC, which may allow more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from podling.api import meta
from podling.api.requests import Attributes, Authorize, Decision
from podling.api.resources import Reader, User
from podling.auth.identities import node_of
from podling.auth.rbac import Rule, allows
from podling.store.types import Object

ROLE = "system:node"
UNRELATED = "no relationship found between node '{}' and this object"
READS = ("get", "list", "watch")
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
        if not node:
            return self._otherwise(user, attributes)
        own = self._decide(node, attributes)
        if own.allowed:
            return own
        other = self._otherwise(user, attributes)
        return other if other.allowed else Decision(False, "\n".join(filter(None, (own.reason, other.reason))))

    def _decide(self, node: str, asked: Attributes) -> Decision:
        match asked.group, asked.resource:
            case "", "secrets" | "configmaps":
                return self._related(node, asked, READS)
            case "", "persistentvolumeclaims" if not asked.subresource:
                return self._related(node, asked, ("get",))
            case "", "persistentvolumes":
                return self._volume(node, asked)
            case "", "serviceaccounts" if asked.subresource == "token":
                return self._related(node, asked, ("create",))
            case ("coordination.k8s.io", "leases") | ("storage.k8s.io", "csinodes"):
                return self._named_after(node, asked)
            case "storage.k8s.io", "volumeattachments":
                return self._attachment(node, asked)
            case _:
                return Decision(any(allows(rule, asked) for rule in self._rules))

    def _related(self, node: str, asked: Attributes, verbs: Sequence[str]) -> Decision:
        resource = asked.resource
        if asked.verb not in verbs:
            return Decision(False, f"can only {'/'.join(verbs)} {resource}")
        if not asked.name:
            return Decision(False, "No Object name found")
        wanted = (resource, asked.name)
        related = any(wanted in set(references(pod)) for pod in self._pods(node, asked.namespace))
        return Decision(related, "" if related else UNRELATED.format(node))

    def _volume(self, node: str, asked: Attributes) -> Decision:
        """A volume is a pod's by way of the claim that it is bound to."""
        if asked.verb != "get":
            return Decision(False, "can only get persistentvolumes")
        claim = meta.part(self._reader.get("persistentvolumes", "", asked.name), "spec", "claimRef")
        wanted = ("persistentvolumeclaims", claim.get("name", ""))
        pods = self._pods(node, claim["namespace"]) if claim else ()
        related = any(wanted in set(references(pod)) for pod in pods)
        return Decision(related, "" if related else UNRELATED.format(node))

    def _named_after(self, node: str, asked: Attributes) -> Decision:
        if asked.verb == "create" or asked.name == node:
            return Decision(any(allows(rule, asked) for rule in self._rules))
        return Decision(False, f"can only access {asked.resource} with the same name as the requesting node")

    def _attachment(self, node: str, asked: Attributes) -> Decision:
        if asked.verb != "get":
            return Decision(False, "can only get volumeattachments")
        found = self._reader.get("volumeattachments.storage.k8s.io", "", asked.name)
        related = meta.part(found, "spec").get("nodeName") == node
        return Decision(related, "" if related else UNRELATED.format(node))

    def _pods(self, node: str, namespace: str) -> Iterator[Object]:
        pods = self._reader.list("pods", namespace)
        return (pod for pod in pods if meta.spec(pod).get("nodeName") == node)


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
    for field in ("csi", "flexVolume", "iscsi", "rbd", "cephfs", "scaleIO", "storageos", "azureFile"):
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
