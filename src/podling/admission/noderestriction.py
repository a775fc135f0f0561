"""NodeRestriction: a kubelet writes its own node, the pods bound to it, and little else.

It is about users of the group `system:nodes`; what they may read is the node authorizer's to say.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cryptography import x509

from podling.admission.refusals import refuse
from podling.api import meta
from podling.api.errors import not_found
from podling.api.gotext import quoted
from podling.api.requests import Attributes, Authorize
from podling.api.resources import Write
from podling.auth.identities import LEASES, NODE_PREFIX, node_of
from podling.auth.nodes import references
from podling.auth.signer import KUBELET_CLIENT, KUBELET_SERVING, common_name
from podling.kinds.core.internal import STRUCTS
from podling.kinds.core.podannotations import MIRROR
from podling.kinds.validation.fields import comparable
from podling.store.types import Object

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


class NodeRestriction:
    """The step; `authorize` decides about tokens for audiences that no volume of a pod names."""

    def __init__(self, authorize: Authorize) -> None:
        self._authorize = authorize

    def __call__(self, write: Write) -> None:
        node = node_of(write.user)
        if node is None or write.operation == "CONNECT":
            return
        if not node:
            raise refuse(write, f"could not determine node from user {quoted(write.user.name)}")
        if write.resource.group_resource == "serviceaccounts":
            self._service_account(write, node)
        rule = _RULES.get(write.resource.group_resource)
        if rule is not None:
            rule(write, node)

    def _service_account(self, write: Write, node: str) -> None:
        """A token for an account is bound to a pod of the node, and for an audience that the pod's volumes name."""
        if write.operation != "CREATE" or write.subresource != "token":
            return
        bound = meta.part(write.new, "spec", "boundObjectRef")
        if bound.get("apiVersion") != "v1" or bound.get("kind") != "Pod" or not bound.get("name"):
            raise refuse(write, "node requested token not bound to a pod")
        uid = bound.get("uid")
        if not uid:
            raise refuse(write, "node requested token with a pod binding without a uid")
        pod = write.reader.get("pods", write.namespace, bound["name"])
        if pod is None:
            raise not_found("pods", "", bound["name"])
        if uid != meta.uid(pod):
            why = f"the UID in the bound object reference ({uid}) does not match the UID in record. "
            raise refuse(write, f"{why}The object might have been deleted and then recreated")
        if meta.spec(pod).get("nodeName") != node:
            raise refuse(write, "node requested token bound to a pod scheduled on a different node")
        self._check_audience(write, pod)

    def _check_audience(self, write: Write, pod: Object) -> None:
        audiences: Sequence[str] = meta.spec(write.new).get("audiences") or [""]
        if len(audiences) > 1:
            raise refuse(write, "node may only request 0 or 1 audiences")
        wanted = audiences[0]
        if wanted in _audiences(write, pod):
            return
        verb = "request-serviceaccounts-token-audience"
        asked = Attributes(verb, "", "", "v1", wanted, "", write.namespace, write.name)
        if not self._authorize(write.user, asked).allowed:
            why = f"{write.user.name} is not authorized to request tokens for this audience"
            raise refuse(write, f"audience {quoted(wanted)} not found in pod spec volume, {why}")


def _audiences(write: Write, pod: Object) -> Iterator[str]:
    for volume in meta.items(pod, "spec", "volumes"):
        for source in meta.items(volume, "projected", "sources"):
            if source.get("serviceAccountToken") is not None:
                yield source["serviceAccountToken"].get("audience") or ""
        driver = write.reader.get("csidrivers.storage.k8s.io", "", _driver(write, pod, volume))
        yield from (request.get("audience") or "" for request in meta.items(driver, "spec", "tokenRequests"))


def _driver(write: Write, pod: Object, volume: Object) -> str:
    """The CSI driver of a volume, or of what its claim is bound to."""
    claim = meta.part(volume, "persistentVolumeClaim").get("claimName", "")
    if volume.get("ephemeral") is not None:
        claim = f"{meta.name(pod)}-{volume['name']}"
    if not claim:
        return meta.part(volume, "csi").get("driver", "")
    bound = meta.part(write.reader.get("persistentvolumeclaims", meta.namespace(pod), claim), "spec")
    return meta.part(write.reader.get("persistentvolumes", "", bound.get("volumeName", "")), "spec", "csi").get(
        "driver", ""
    )


def _pods(write: Write, node: str) -> None:
    match write.subresource, write.operation:
        case "", "CREATE":
            _create_mirror(write, node)
        case "", "DELETE":
            _own_pod(write, write.old, node, f'node "{node}" can only delete pods with spec.nodeName set to itself')
        case "", operation:
            what = f'unexpected operation "{operation}", node "{node}" can only create and delete mirror pods'
            raise refuse(write, what)
        case "status", "UPDATE":
            _update_status(write, node)
        case "eviction", "CREATE":
            pod = write.reader.get("pods", write.namespace, write.name)
            if pod is None:
                raise not_found("pods", "", write.name)
            _own_pod(write, pod, node, f"node {node} can only evict pods with spec.nodeName set to itself")
        case subresource, _:
            what = f"unexpected pod subresource {quoted(subresource)}, only 'status' and 'eviction' are allowed"
            raise refuse(write, what)


def _own_pod(write: Write, pod: Object | None, node: str, why: str) -> None:
    if meta.part(pod, "spec").get("nodeName") != node:
        raise refuse(write, why)


def _update_status(write: Write, node: str) -> None:
    old, new = write.old or {}, write.new
    _own_pod(write, old, node, f'node "{node}" can only update pod status for pods with spec.nodeName set to itself')
    if meta.labels(old) != meta.labels(new):
        raise refuse(write, f'node "{node}" cannot update labels through pod status')
    if _claims_made(old) != _claims_made(new):
        raise refuse(write, f'node "{node}" cannot update resource claim statues')
    field = "extendedResourceClaimStatus"
    if meta.status(old).get(field) != meta.status(new).get(field):
        raise refuse(write, f'node "{node}" cannot update extended resource claim status')


def _claims_made(pod: Object) -> list[tuple[str, str | None]]:
    made = meta.items(pod, "status", "resourceClaimStatuses")
    return [(status["name"], status.get("resourceClaimName")) for status in made]


def _create_mirror(write: Write, node: str) -> None:
    pod = write.new
    if MIRROR not in meta.annotations(pod):
        raise refuse(write, f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods')
    _own_pod(write, pod, node, f'node "{node}" can only create pods with spec.nodeName set to itself')
    _check_owner(write, node)
    if referenced := _referenced(pod):
        raise refuse(write, f'node "{node}" can not create pods that reference {referenced}')


def _check_owner(write: Write, node: str) -> None:
    """The one owner of a mirror pod is its node."""
    owners, only = meta.owner_references(write.new), f'node "{node}" can only create pods with'
    if len(owners) > 1:
        raise refuse(write, f"{only} a single owner reference set to itself")
    owner = owners[0] if owners else {}
    if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
        raise refuse(write, f"{only} an owner reference set to itself")
    if not owner.get("controller"):
        raise refuse(write, f"{only} a controller owner reference set to itself")
    if owner.get("blockOwnerDeletion"):
        raise refuse(write, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
    stored = write.reader.get("nodes", "", node)
    if stored is None:
        raise not_found("nodes", "", node)
    if owner.get("uid") != meta.uid(stored):
        raise refuse(write, f"node {node} UID mismatch: expected {owner.get('uid')} got {meta.uid(stored)}")


_OF_VOLUMES = {
    "configMap": "configmaps (via configmap volumes)",
    "secret": "secrets (via secret volumes)",
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
    "azureFile": "secrets (via azureFile volumes)",
}
_PROJECTED = {
    "configMap": "configmaps (via projected volumes)",
    "secret": "secrets (via projected volumes)",
    "serviceAccountToken": "serviceaccounts (via projected volumes)",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}


def _referenced(pod: Object) -> str:
    """A word for the first kind of object that a pod names (`podutil.HasAPIObjectReference`); `""` for none."""
    spec = meta.spec(pod)
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    named = {resource for resource, name in references(pod) if name}
    for resource in ("secrets", "configmaps"):
        if resource in named:
            return resource
    if spec.get("resourceClaims"):
        return "resourceclaims"
    words = (word for volume in meta.items(spec, "volumes") for word in _of_volume(volume))
    return next(words, "")


def _of_volume(volume: Object) -> Iterator[str]:
    yield from (word for field, word in _OF_VOLUMES.items() if volume.get(field) is not None)
    for source in meta.items(volume, "projected", "sources"):
        yield from (word for field, word in _PROJECTED.items() if source.get(field) is not None)


def _nodes(write: Write, node: str) -> None:
    if write.name != node:
        raise refuse(write, f'node "{node}" is not allowed to modify node {quoted(write.name)}')
    source = meta.spec(write.new).get("configSource")
    if write.operation == "CREATE":
        if source is not None:
            raise refuse(write, f'node "{node}" is not allowed to create pods with a non-nil configSource')
        forbidden = _forbidden_labels(meta.labels(write.new))
        if forbidden:
            raise refuse(write, f'node "{node}" is not allowed to set the following labels: {", ".join(forbidden)}')
    if write.operation == "UPDATE" and write.old is not None:
        if source is not None and source != meta.spec(write.old).get("configSource"):
            raise refuse(write, f'node "{node}" is not allowed to update configSource to a new non-nil configSource')
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
    if write.namespace != LEASES:
        raise refuse(write, f'can only access leases in the "{LEASES}" system namespace')
    if write.name != node:
        raise refuse(write, "can only access node lease with the same name as the requesting node")


def _csi_nodes(write: Write, node: str) -> None:
    if write.name != node:
        raise refuse(write, "can only access CSINode with the same name as the requesting node")


def _slices(write: Write, node: str) -> None:
    """What a kubelet may update, the node authorizer says."""
    if write.operation in ("CREATE", "DELETE") and meta.spec(write.new).get("nodeName") != node:
        verb = write.operation.lower()
        raise refuse(write, f"can only {verb} ResourceSlice with the same NodeName as the requesting node")


def _claims(write: Write, node: str) -> None:
    if write.subresource != "status":
        raise refuse(write, "may only update PVC status")
    before, after = _claim_essence(write.old or {}), _claim_essence(write.new)
    if comparable(before) != comparable(after):
        why = "is not allowed to update fields other than status.quantity and status.conditions"
        raise refuse(write, f'node "{node}" {why}: {STRUCTS.difference("PersistentVolumeClaim", before, after)}')


_KUBELET_SAYS = ("capacity", "conditions", "allocatedResources", "allocatedResourceStatuses")


def _claim_essence(claim: Object) -> Object:
    """A claim without what its kubelet may say of it."""
    metadata = {k: v for k, v in meta.metadata(claim).items() if k not in ("managedFields", "resourceVersion")}
    status = {k: v for k, v in meta.status(claim).items() if k not in _KUBELET_SAYS}
    return {**claim, "metadata": metadata, "status": status}


def _signing_requests(write: Write, node: str) -> None:
    spec = meta.spec(write.new)
    if write.operation != "CREATE" or spec.get("signerName") not in (KUBELET_SERVING, KUBELET_CLIENT):
        return
    try:
        asked = x509.load_pem_x509_csr(b64decode(spec.get("request") or ""))
    except ValueError as error:
        raise refuse(write, f"unable to parse csr: {error}") from None
    if common_name(asked) != f"{NODE_PREFIX}{node}":
        raise refuse(write, f"can only create a node CSR with CN={NODE_PREFIX}{node}")


_RULES: Mapping[str, Callable[[Write, str], None]] = {
    "pods": _pods,
    "nodes": _nodes,
    "persistentvolumeclaims": _claims,
    "leases.coordination.k8s.io": _leases,
    "csinodes.storage.k8s.io": _csi_nodes,
    "resourceslices.resource.k8s.io": _slices,
    "certificatesigningrequests.certificates.k8s.io": _signing_requests,
}
