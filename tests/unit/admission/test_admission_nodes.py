"""What kubelets may write, what new nodes begin with, and who gets which certificates and larger claims."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from admitting import Cluster, pod, refusal
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from podling.admission.certificates import SignerRights, restrict_subject
from podling.admission.claims import resize_claims
from podling.admission.noderestriction import NodeRestriction
from podling.admission.nodes import check_resize, taint_new_nodes, topology_labels
from podling.api.errors import ApiError
from podling.api.requests import Attributes, Decision
from podling.api.resources import User, Write
from podling.store.types import Object

N1 = User("system:node:n1", ("system:nodes", "system:authenticated"))
CSRS = "certificatesigningrequests.certificates.k8s.io"
node_restriction = NodeRestriction(lambda _user, _asked: Decision(False))
MIRROR = {"kubernetes.io/config.mirror": "x"}


def node(name: str = "n1", labels: dict[str, str] | None = None, **spec: Any) -> Object:
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def test_a_kubelet_changes_its_own_node_only(cluster: Cluster) -> None:
    node_restriction(cluster.write("nodes", node(), old=node(), user=N1))
    other = cluster.write("nodes", node("n2"), old=node("n2"), user=N1)
    assert refusal(node_restriction, other) == ('nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2"')
    node_restriction(cluster.write("nodes", node("n2"), old=node("n2")))  # other users are free of all this


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (node(taints=[{"key": "a"}]), 'node "n1" is not allowed to modify taints'),
        (
            node(labels={"node-restriction.kubernetes.io/a": "b", "other.k8s.io/c": "d", "own/e": "f"}),
            "is not allowed to modify labels: node-restriction.kubernetes.io/a, other.k8s.io/c",
        ),
    ],
)
def test_a_kubelet_steers_no_pods_to_its_node(cluster: Cluster, changed: Object, problem: str) -> None:
    message = refusal(node_restriction, cluster.write("nodes", changed, old=node(), user=N1))
    assert message == f'nodes "n1" is forbidden: {problem}'


def test_a_kubelet_sets_the_labels_that_are_its_own_to_set(cluster: Cluster) -> None:
    labels = {"kubernetes.io/hostname": "n1", "node.kubernetes.io/x": "y", "kubelet.kubernetes.io/z": "", "plain": ""}
    node_restriction(cluster.write("nodes", node(labels=labels), user=N1))


def mirror(owner: Object | None = None, **spec: Any) -> Object:
    made = pod(nodeName="n1", **spec)
    own = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1", "controller": True}
    made["metadata"] |= {"annotations": MIRROR, "ownerReferences": [own | (owner or {})]}
    return made


def test_a_kubelet_creates_mirror_pods_of_its_own(cluster: Cluster) -> None:
    cluster.add("nodes", {"metadata": {"name": "n1", "uid": "u1"}})
    plain = cluster.write("pods", pod(nodeName="n1"), user=N1)
    assert 'does not have "kubernetes.io/config.mirror" annotation' in refusal(node_restriction, plain)
    node_restriction(cluster.write("pods", mirror(), user=N1))


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (
            mirror({"name": "n2"}),
            'node "n1" can only create pods with an owner reference set to itself',
        ),
        (
            mirror({"controller": False}),
            'node "n1" can only create pods with a controller owner reference set to itself',
        ),
        (
            mirror({"blockOwnerDeletion": True}),
            'node "n1" must not set blockOwnerDeletion on an owner reference',
        ),
        (mirror({"uid": "u2"}), "node n1 UID mismatch: expected u2 got u1"),
        *(
            (mirror(volumes=[{"name": "v", field: source}]), f'node "n1" can not create pods that reference {word}')
            for field, source, word in (
                ("secret", {"secretName": "s"}, "secrets"),
                ("configMap", {"name": "c"}, "configmaps"),
                ("persistentVolumeClaim", {"claimName": "c"}, "persistentvolumeclaims"),
                ("ephemeral", {}, "persistentvolumeclaims (via ephemeral volumes)"),
                ("csi", {"driver": "d"}, "csidrivers (via CSI volumes)"),
                (
                    "projected",
                    {"sources": [{"serviceAccountToken": {}}]},
                    "serviceaccounts (via projected volumes)",
                ),
                ("projected", {"sources": [{"clusterTrustBundle": {}}]}, "clustertrustbundles"),
            )
        ),
        (mirror(serviceAccountName="s"), 'node "n1" can not create pods that reference serviceaccounts'),
        (mirror(resourceClaims=[{"name": "r"}]), 'node "n1" can not create pods that reference resourceclaims'),
    ],
)
def test_a_mirror_pod_belongs_to_its_node_and_uses_nothing(cluster: Cluster, made: Object, problem: str) -> None:
    cluster.add("nodes", {"metadata": {"name": "n1", "uid": "u1"}})
    name = made["metadata"]["name"]
    message = refusal(node_restriction, cluster.write("pods", made, user=N1))
    assert message == f'pods "{name}" is forbidden: {problem}'


def test_a_kubelet_tells_the_status_of_the_pods_that_it_runs(cluster: Cluster) -> None:
    mine, other = pod(nodeName="n1"), pod(nodeName="n2")
    node_restriction(cluster.write("pods", mine, old=mine, user=N1, subresource="status"))
    for obj, options in (
        (other, {"old": other, "subresource": "status"}),
        (other, {"old": other, "operation": "DELETE"}),
    ):
        assert "spec.nodeName set to itself" in refusal(
            node_restriction, cluster.write("pods", obj, user=N1, **options)
        )
    assert "can only create and delete mirror pods" in refusal(
        node_restriction, cluster.write("pods", mine, old=mine, user=N1)
    )
    debugged = cluster.write("pods", mine, old=mine, user=N1, subresource="ephemeralcontainers")
    assert refusal(node_restriction, debugged).endswith(
        "unexpected pod subresource \"ephemeralcontainers\", only 'status' and 'eviction' are allowed"
    )


def test_devices_of_a_pod_are_for_others_to_hand_out(cluster: Cluster) -> None:
    mine = pod(nodeName="n1")
    for status, problem in (
        ({"resourceClaimStatuses": [{"name": "a", "resourceClaimName": "b"}]}, "cannot update resource claim statues"),
        ({"extendedResourceClaimStatus": {"resourceClaimName": "b"}}, "cannot update extended resource claim status"),
    ):
        write = cluster.write("pods", {**mine, "status": status}, old=mine, user=N1, subresource="status")
        assert refusal(node_restriction, write).endswith(f'node "n1" {problem}')


def eviction(name: str) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}}


def test_a_kubelet_evicts_the_pods_that_it_runs(cluster: Cluster) -> None:
    for name, on in (("mine", "n1"), ("other", "n2")):
        cluster.add("pods", {**pod(nodeName=on), "metadata": {"name": name, "namespace": "default"}})
    options: dict[str, Any] = {"user": N1, "subresource": "eviction", "operation": "CREATE"}
    node_restriction(cluster.write("pods", eviction("mine"), **options))
    message = refusal(node_restriction, cluster.write("pods", eviction("other"), **options))
    assert message.endswith("node n1 can only evict pods with spec.nodeName set to itself")


# Tokens


def token_request(audiences: list[str] | None = None, **bound: Any) -> Object:
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u1", **bound}
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"boundObjectRef": reference, "audiences": audiences},
    }


@pytest.fixture
def running(cluster: Cluster) -> Cluster:
    source = {"serviceAccountToken": {"audience": "vault"}}
    volumes = [
        {"name": "t", "projected": {"sources": [source, {"serviceAccountToken": {}}]}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
    ]
    for name, on in (("web", "n1"), ("other", "n2")):
        metadata = {"name": name, "namespace": "default", "uid": "u1"}
        cluster.add("pods", {**pod(nodeName=on, volumes=volumes), "metadata": metadata})
    claim: Object = {"metadata": {"name": "data", "namespace": "default"}, "spec": {"volumeName": "v"}}
    cluster.add("persistentvolumeclaims", claim)
    cluster.add("persistentvolumes", {"metadata": {"name": "v"}, "spec": {"csi": {"driver": "d"}}})
    driver = {"metadata": {"name": "d"}, "spec": {"tokenRequests": [{"audience": "storage"}]}}
    cluster.add("csidrivers.storage.k8s.io", driver)
    return cluster


def ask_token(cluster: Cluster, body: Object) -> Any:
    return cluster.write("serviceaccounts", body, user=N1, subresource="token", operation="CREATE")


@pytest.mark.parametrize("audiences", [None, ["vault"], ["storage"]])
def test_a_kubelet_gets_the_tokens_that_volumes_of_its_pods_ask_for(
    running: Cluster, audiences: list[str] | None
) -> None:
    node_restriction(ask_token(running, token_request(audiences)))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (token_request(kind="Secret"), "node requested token not bound to a pod"),
        (token_request(uid=""), "node requested token with a pod binding without a uid"),
        (
            token_request(uid="u2"),
            "the UID in the bound object reference (u2) does not match the UID in record. The object might have been "
            "deleted and then recreated",
        ),
        (token_request(name="other"), "node requested token bound to a pod scheduled on a different node"),
        (token_request(["a", "b"]), "node may only request 0 or 1 audiences"),
        (
            token_request(["elsewhere"]),
            'audience "elsewhere" not found in pod spec volume, system:node:n1 is not authorized to request tokens '
            "for this audience",
        ),
    ],
)
def test_a_kubelet_gets_no_other_tokens(running: Cluster, body: Object, problem: str) -> None:
    assert refusal(node_restriction, ask_token(running, body)) == f'serviceaccounts "web" is forbidden: {problem}'


def test_more_audiences_may_be_allowed(running: Cluster) -> None:
    def authorize(_user: User, asked: Attributes) -> Decision:
        wanted = Attributes("request-serviceaccounts-token-audience", "", "", "v1", "elsewhere", "", "default", "web")
        return Decision(asked == wanted)

    NodeRestriction(authorize)(ask_token(running, token_request(["elsewhere"])))


def test_a_kubelet_asks_for_certificates_of_its_own_name(cluster: Cluster) -> None:
    signer = "kubernetes.io/kubelet-serving"
    node_restriction(cluster.write(CSRS, request("system:nodes", signer, name="system:node:n1"), user=N1))
    node_restriction(cluster.write(CSRS, request("x", "example.com/own", name="anybody"), user=N1))
    other = cluster.write(CSRS, request("system:nodes", signer, name="system:node:n2"), user=N1)
    assert refusal(node_restriction, other).endswith("can only create a node CSR with CN=system:node:n1")


def test_a_kubelet_tells_the_size_of_a_claim_and_nothing_else(cluster: Cluster) -> None:
    claim = {"metadata": {"name": "data", "namespace": "default"}, "spec": {"volumeName": "v"}}
    grown = {**claim, "status": {"capacity": {"storage": "1Gi"}, "conditions": [{"type": "Resizing"}]}}
    node_restriction(cluster.write("persistentvolumeclaims", grown, old=claim, user=N1, subresource="status"))
    moved = {**claim, "status": {"phase": "Lost"}}
    write = cluster.write("persistentvolumeclaims", moved, old=claim, user=N1, subresource="status")
    why = 'node "n1" is not allowed to update fields other than status.quantity and status.conditions'
    assert why in refusal(node_restriction, write)
    assert refusal(node_restriction, cluster.write("persistentvolumeclaims", grown, old=claim, user=N1)).endswith(
        "may only update PVC status"
    )


def test_a_kubelet_renews_its_own_lease(cluster: Cluster) -> None:
    def lease(name: str, namespace: str = "kube-node-lease") -> Object:
        return {"metadata": {"name": name, "namespace": namespace}}

    node_restriction(cluster.write("leases.coordination.k8s.io", lease("n1"), user=N1))
    for other in (lease("n2"), lease("n1", "kube-system")):
        assert "can only access" in refusal(
            node_restriction, cluster.write("leases.coordination.k8s.io", other, user=N1)
        )


def test_a_new_node_gets_no_pods_before_it_is_ready(cluster: Cluster) -> None:
    write = cluster.write("nodes", node(taints=[{"key": "own", "effect": "NoExecute"}]))
    taint_new_nodes(write)
    taint_new_nodes(write)
    assert [t["key"] for t in write.new["spec"]["taints"]] == ["own", "node.kubernetes.io/not-ready"]


def test_a_bound_pod_tells_its_zone(cluster: Cluster) -> None:
    cluster.add("nodes", node(labels={"topology.kubernetes.io/zone": "z1", "other": "label"}))
    bound = cluster.write("pods", pod(nodeName="n1"), old=pod(), subresource="binding")
    born_there = cluster.write("pods", pod(nodeName="n1"))
    for write in (bound, born_there):
        topology_labels(write)
        assert write.new["metadata"]["labels"] == {"topology.kubernetes.io/zone": "z1"}
    nowhere = cluster.write("pods", pod())
    topology_labels(nowhere)
    assert "labels" not in nowhere.new["metadata"]


def test_a_pod_does_not_grow_beyond_its_node(cluster: Cluster) -> None:
    allocatable = {"cpu": "2", "memory": "1Gi"}
    cluster.add("nodes", {**node(), "status": {"allocatable": allocatable}})

    def resized(generation: int = 2, **requests: str) -> Write:
        obj = pod("web", {"name": "app", "resources": {"requests": requests}}, nodeName="n1")
        obj["metadata"]["generation"] = generation
        old = pod(nodeName="n1")
        old["metadata"]["generation"] = 1
        return cluster.write("pods", obj, old=old, subresource="resize")

    check_resize(resized(cpu="2", memory="1Gi"))
    check_resize(resized(1, cpu="3"))
    with pytest.raises(ApiError) as refused:
        check_resize(resized(cpu="2500m", memory="2Gi"))
    assert refused.value.message == (
        'pods "web" is forbidden: node didn\'t have enough allocatable resources: '
        "cpu, requested: 2500, allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824"
    )
    assert (refused.value.details or {})["causes"] == [{"reason": "NodeCapacity"}]
    cluster.add("nodes", node(labels={"kubernetes.io/os": "windows"}))
    assert 'pod resize is only supported on linux nodes, node "n1" is "windows"' in refusal(check_resize, resized())


# Certificates


def request(
    organization: str, signer: str = "kubernetes.io/kube-apiserver-client", name: str = "ann", **status: Any
) -> Object:
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = {NameOID.ORGANIZATION_NAME: organization, NameOID.COMMON_NAME: name}
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes.items()])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = b64encode(csr.public_bytes(serialization.Encoding.PEM)).decode()
    return {"metadata": {"name": "r"}, "spec": {"request": pem, "signerName": signer}, "status": status}


def test_nobody_becomes_a_superuser_by_certificate(cluster: Cluster) -> None:
    restrict_subject(cluster.write(CSRS, request("dev")))
    restrict_subject(cluster.write(CSRS, request("system:masters", signer="example.com/own")))
    assert refusal(restrict_subject, cluster.write(CSRS, request("system:masters"))) == (
        f'{CSRS} "r" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is '
        "not allowed"
    )


@pytest.mark.parametrize(
    ("subresource", "verb", "status"),
    [("approval", "approve", {}), ("status", "sign", {"certificate": "x"})],
)
def test_who_answers_a_request_needs_the_right_to_its_signer(
    cluster: Cluster, subresource: str, verb: str, status: Object
) -> None:
    old, new = request("dev", signer="example.com/own"), request("dev", signer="example.com/own", **status)
    write = cluster.write(CSRS, new, old=old, subresource=subresource)

    def rights_to(signer: str) -> SignerRights:
        wanted = Attributes(verb, "", "certificates.k8s.io", "*", "signers", name=signer)
        return SignerRights(lambda _user, asked: Decision(asked == wanted))

    assert refusal(rights_to("example.com/other"), write) == (
        f'{CSRS} "r" is forbidden: user not permitted to {verb} requests with signerName "example.com/own"'
    )
    rights_to("example.com/own")(write)
    rights_to("example.com/*")(write)


# Claims


def test_a_claim_grows_only_where_its_class_lets_it(cluster: Cluster) -> None:
    def claim(size: str, phase: str = "Bound", storage: str = "fast") -> Object:
        spec = {"resources": {"requests": {"storage": size}}, "storageClassName": storage}
        return {"metadata": {"name": "data", "namespace": "shop"}, "spec": spec, "status": {"phase": phase}}

    def resize(old: Object, new: Object) -> None:
        resize_claims(cluster.write("persistentvolumeclaims", new, old=old))

    cluster.add("storageclasses.storage.k8s.io", {"metadata": {"name": "fast"}, "allowVolumeExpansion": True})
    cluster.add("storageclasses.storage.k8s.io", {"metadata": {"name": "fixed"}})
    resize(claim("1Gi"), claim("2Gi"))
    resize(claim("2Gi", storage="fixed"), claim("2Gi", storage="fixed"))
    larger = cluster.write("persistentvolumeclaims", claim("2Gi", storage="fixed"), old=claim("1Gi", storage="fixed"))
    assert refusal(resize_claims, larger) == (
        'persistentvolumeclaims "data" is forbidden: only dynamically provisioned pvc can be resized and the '
        "storageclass that provisions the pvc must support resize"
    )
    pending = cluster.write("persistentvolumeclaims", claim("2Gi"), old=claim("1Gi", phase="Pending"))
    assert "Only bound persistent volume claims can be expanded" in refusal(resize_claims, pending)
