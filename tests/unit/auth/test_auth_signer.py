"""What the cluster's signers sign, and what they refuse."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from podling.api.requests import Attributes, Decision
from podling.api.resources import User
from podling.auth import pki
from podling.auth.approver import KubeletApproval
from podling.auth.signer import CLIENT, KUBELET_CLIENT, KUBELET_SERVING, Signer, signers
from podling.controllers.csrsigning import SigningRefused

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLIENT_USAGES = ["digital signature", "client auth"]
SERVER_USAGES = ["digital signature", "key encipherment", "server auth"]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Signer]:
    made = pki.ensure(Path(tmp_path_factory.mktemp("pki")), server_names=["localhost"], now=NOW)
    return signers(pki.Authority.load(made.ca_cert, made.ca_key), lambda: NOW)


def request(name: str, organization: str = "", names: Sequence[x509.GeneralName] = ()) -> bytes:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(
        serialization.Encoding.PEM
    )


def test_a_client_gets_a_year_and_its_subject(known: dict[str, Signer]) -> None:
    signed = x509.load_pem_x509_certificate(known[CLIENT].sign(request("bob", "dev"), CLIENT_USAGES, None))
    assert signed.subject.rfc4514_string() == "O=dev,CN=bob"
    assert signed.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert signed.not_valid_after_utc - signed.not_valid_before_utc == timedelta(days=365)
    usage = signed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert signed.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    signed.verify_directly_issued_by(known[CLIENT].authority.certificate)


def test_a_shorter_time_is_granted_a_longer_one_is_not(known: dict[str, Signer]) -> None:
    for seconds, days in ((86400, 1), (10 * 365 * 86400, 365)):
        signed = x509.load_pem_x509_certificate(known[CLIENT].sign(request("bob"), CLIENT_USAGES, seconds))
        assert signed.not_valid_after_utc - signed.not_valid_before_utc == timedelta(days=days)


def test_a_short_life_is_not_made_shorter(known: dict[str, Signer]) -> None:
    for seconds, granted in ((3600, 3600), (60, 600)):
        signed = x509.load_pem_x509_certificate(known[CLIENT].sign(request("bob"), CLIENT_USAGES, seconds))
        assert signed.not_valid_after_utc == NOW + timedelta(seconds=granted)


def test_a_kubelet_s_server_certificate_carries_its_names(known: dict[str, Signer]) -> None:
    asked = request("system:node:n1", "system:nodes", [x509.DNSName("n1")])
    signed = x509.load_pem_x509_certificate(known[KUBELET_SERVING].sign(asked, SERVER_USAGES, None))
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1"]


@pytest.mark.parametrize(
    ("signer", "asked", "usages", "why"),
    [
        (CLIENT, request("bob"), SERVER_USAGES, "^invalid usage for client certificate: server auth$"),
        (CLIENT, request("bob"), ["signing"], "^invalid usage for client certificate: signing$"),
        (CLIENT, request("bob"), [], "^missing required usage for client certificate: client auth$"),
        (
            KUBELET_CLIENT,
            request("system:node:n1", "system:nodes"),
            SERVER_USAGES,
            r"^usages did not match \[client auth digital signature key encipherment\]$",
        ),
        (
            KUBELET_SERVING,
            request("n1", "system:nodes", [x509.DNSName("n1")]),
            CLIENT_USAGES,
            r"^usages did not match \[digital signature key encipherment server auth\]$",
        ),
        (KUBELET_CLIENT, request("system:node:n1", "dev"), CLIENT_USAGES, "subject organization is not system:nodes"),
        (KUBELET_CLIENT, request("n1", "system:nodes"), CLIENT_USAGES, "does not begin with system:node:"),
        (
            KUBELET_CLIENT,
            request("system:node:n1", "system:nodes", [x509.DNSName("n1")]),
            CLIENT_USAGES,
            "DNS subjectAltNames are not allowed",
        ),
        (
            KUBELET_SERVING,
            request("system:node:n1", "system:nodes"),
            SERVER_USAGES,
            "DNS or IP subjectAltName is required",
        ),
        (
            KUBELET_SERVING,
            request("system:node:n1", "system:nodes", [x509.DNSName("n1"), x509.RFC822Name("a@b")]),
            SERVER_USAGES,
            "Email subjectAltNames are not allowed",
        ),
    ],
)
def test_what_a_signer_refuses(
    known: dict[str, Signer], signer: str, asked: bytes, usages: list[str], why: str
) -> None:
    with pytest.raises(SigningRefused, match=why):
        known[signer].sign(asked, usages, None)


# What approves itself


def approval(known: dict[str, Signer], user: str, *rights: str, name: str = "system:node:n1") -> str:
    """Why a kubelet's request is approved, sent by `user` who has these virtual rights."""
    pem = request(name, "system:nodes")
    spec = {"request": b64encode(pem).decode(), "signerName": KUBELET_CLIENT, "usages": CLIENT_USAGES, "username": user}

    def authorize(asker: User, asked: Attributes) -> Decision:
        wanted = ("create", "certificates.k8s.io", "certificatesigningrequests")
        assert (asker.name, (asked.verb, asked.group, asked.resource)) == (user, wanted)
        return Decision(asked.subresource in rights)

    return KubeletApproval(authorize)({"spec": spec})


def test_a_node_renews_its_own_certificate(known: dict[str, Signer]) -> None:
    why = "Auto approving self kubelet client certificate after SubjectAccessReview."
    assert approval(known, "system:node:n1", "selfnodeclient") == why
    assert approval(known, "system:node:n2", "selfnodeclient") == ""
    assert approval(known, "system:node:n1") == ""


def test_who_may_brings_in_new_nodes(known: dict[str, Signer]) -> None:
    why = "Auto approving kubelet client certificate after SubjectAccessReview."
    assert approval(known, "system:bootstrap:abcdef", "nodeclient") == why
    assert approval(known, "system:bootstrap:abcdef", "nodeclient", name="ann") == ""
