"""NodeRestriction: a kubelet writes its own node, the pods bound to it, and little else.

It is about users of the group `system:nodes`; what they may read is the node authorizer's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from podling.admission.refusals import refuse
from podling.api import meta
from podling.api.resources import Write
from podling.auth.identities import node_of
from podling.store.types import Object

MIRROR = "kubernetes.io/config.mirror"
LEASES = "kube-node-lease"
RESTRICTED_PREFIX = "node-restriction.kubernetes.io"
KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    }
)
KUBELET_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")


def node_restriction(write: Write) -> None:
    node = node_of(write.user)
    if node is None:
        return
    if not node:
        raise refuse(write, f'could not determine node from user "{write.user.name}"')
    rule = _RULES.get(write.resource.group_resource)
    if rule is not None:
        rule(write, node)


def _pods(write: Write, node: str) -> None:
    match write.subresource, write.operation:
        case "", "CREATE":
            _create_mirror(write, node)
        case "", "DELETE":
            _own_pod(write, node, "can only delete pods with spec.nodeName set to itself")
        case "status", "UPDATE":
            _own_pod(write, node, "can only update pod status for pods with spec.nodeName set to itself")
            if meta.labels(write.old or {}) != meta.labels(write.new):
                raise refuse(write, f'node "{node}" cannot update labels through pod status')
        case "eviction", _:
            _own_pod(write, node, "can only evict pods with spec.nodeName set to itself")
        case "", operation:
            what = f'unexpected operation "{operation}", node "{node}" can only create and delete mirror pods'
            raise refuse(write, what)
        case subresource, _:
            what = f'unexpected pod subresource "{subresource}", only "status" and "eviction" are allowed'
            raise refuse(write, what)


def _own_pod(write: Write, node: str, why: str) -> None:
    if meta.spec(write.old or write.new).get("nodeName") != node:
        raise refuse(write, f'node "{node}" {why}')


def _create_mirror(write: Write, node: str) -> None:
    pod, spec = write.new, meta.spec(write.new)
    if MIRROR not in meta.annotations(pod):
        raise refuse(write, f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods')
    if spec.get("nodeName") != node:
        raise refuse(write, f'node "{node}" can only create pods with spec.nodeName set to itself')
    owners = meta.owner_references(pod)
    if len(owners) > 1:
        raise refuse(write, f'node "{node}" can only create pods with a single owner reference set to itself')
    if spec.get("serviceAccountName"):
        raise refuse(write, f'node "{node}" can not create pods that reference a service account')
    for field in ("secrets", "configmaps", "persistentvolumeclaims"):
        if field in _referenced(spec):
            raise refuse(write, f'node "{node}" can not create pods that reference {field}')


_REFERENCES = {"secret": "secrets", "configMap": "configmaps", "persistentVolumeClaim": "persistentvolumeclaims"}


def _referenced(spec: Object) -> set[str]:
    volumes = meta.items(spec, "volumes")
    return {word for volume in volumes for field, word in _REFERENCES.items() if volume.get(field) is not None}


def _nodes(write: Write, node: str) -> None:
    requested = meta.name(write.old or write.new)
    if write.operation == "CREATE":
        forbidden = _forbidden_labels(meta.labels(write.new))
        if forbidden:
            raise refuse(write, f'node "{node}" is not allowed to set the following labels: {", ".join(forbidden)}')
        requested = meta.name(write.new)
    if requested != node:
        raise refuse(write, f'node "{node}" is not allowed to modify node "{requested}"')
    if write.operation == "UPDATE" and write.old is not None:
        _check_node_change(write, write.old, node)


def _check_node_change(write: Write, old: Object, node: str) -> None:
    if (meta.spec(old).get("taints") or []) != (meta.spec(write.new).get("taints") or []):
        raise refuse(write, f'node "{node}" is not allowed to modify taints')
    if list(meta.owner_references(old)) != list(meta.owner_references(write.new)):
        raise refuse(write, f'node "{node}" is not allowed to modify ownerReferences')
    before, after = meta.labels(old), meta.labels(write.new)
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    forbidden = _forbidden_labels(changed)
    if forbidden:
        raise refuse(write, f"is not allowed to modify labels: {', '.join(forbidden)}")


def _forbidden_labels(keys: Iterable[str]) -> list[str]:
    """Those of Kubernetes' own labels by which workloads could be steered to the node."""
    return sorted(key for key in keys if _is_forbidden(key))


def _is_forbidden(key: str) -> bool:
    prefix, slash, _ = key.partition("/")
    if not slash:
        return False
    if _within(prefix, RESTRICTED_PREFIX):
        return True
    if not _within(prefix, "kubernetes.io") and not _within(prefix, "k8s.io"):
        return False
    return key not in KUBELET_LABELS and not any(_within(prefix, allowed) for allowed in KUBELET_PREFIXES)


def _within(prefix: str, domain: str) -> bool:
    return prefix == domain or prefix.endswith(f".{domain}")


def _leases(write: Write, node: str) -> None:
    obj = write.old or write.new
    if meta.namespace(obj) != LEASES:
        raise refuse(write, f'can only access leases in the "{LEASES}" system namespace')
    if meta.name(obj) != node:
        raise refuse(write, "can only access node lease with the same name as the requesting node")


def _csi_nodes(write: Write, node: str) -> None:
    if meta.name(write.old or write.new) != node:
        raise refuse(write, "can only access CSINode with the same name as the requesting node")


def _slices(write: Write, node: str) -> None:
    if meta.spec(write.old or write.new).get("nodeName") != node:
        raise refuse(write, "can only create ResourceSlice with the same NodeName as the requesting node")


def _claims(write: Write, _node: str) -> None:
    if write.operation != "UPDATE" or write.subresource != "status":
        raise refuse(write, "may only update PVC status")


_RULES: Mapping[str, Callable[[Write, str], None]] = {
    "pods": _pods,
    "nodes": _nodes,
    "persistentvolumeclaims": _claims,
    "leases.coordination.k8s.io": _leases,
    "csinodes.storage.k8s.io": _csi_nodes,
    "resourceslices.resource.k8s.io": _slices,
}
