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
from podling.admission.noderestriction import node_restriction
from podling.admission.nodes import taint_new_nodes, topology_labels
from podling.api.requests import Attributes, Decision
from podling.api.resources import User
from podling.store.types import Object

N1 = User("system:node:n1", ("system:nodes", "system:authenticated"))
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


def test_a_kubelet_creates_mirror_pods_of_its_own(cluster: Cluster) -> None:
    plain = cluster.write("pods", pod(nodeName="n1"), user=N1)
    assert 'does not have "kubernetes.io/config.mirror" annotation' in refusal(node_restriction, plain)
    mirror = pod(nodeName="n1")
    mirror["metadata"]["annotations"] = MIRROR
    node_restriction(cluster.write("pods", mirror, user=N1))
    with_secret = {**mirror, "spec": {**mirror["spec"], "volumes": [{"name": "s", "secret": {"secretName": "s"}}]}}
    assert "can not create pods that reference secrets" in refusal(
        node_restriction, cluster.write("pods", with_secret, user=N1)
    )


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
    write = cluster.write("pods", pod(nodeName="n1"), old=pod(), subresource="binding")
    topology_labels(write)
    assert write.new["metadata"]["labels"] == {"topology.kubernetes.io/zone": "z1"}


# Certificates


def request(organization: str, signer: str = "kubernetes.io/kube-apiserver-client", **status: Any) -> Object:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = b64encode(csr.public_bytes(serialization.Encoding.PEM)).decode()
    return {"metadata": {"name": "r"}, "spec": {"request": pem, "signerName": signer}, "status": status}


CSRS = "certificatesigningrequests.certificates.k8s.io"


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
