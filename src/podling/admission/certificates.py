"""CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may have which certificates."""

from __future__ import annotations

from base64 import b64decode

from cryptography import x509
from cryptography.x509.oid import NameOID

from podling.admission.refusals import refuse
from podling.api import meta
from podling.api.requests import Attributes, Authorize
from podling.api.resources import Write
from podling.auth.identities import MASTERS

RESOURCE = "certificatesigningrequests.certificates.k8s.io"
GROUP = "certificates.k8s.io"
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"


class SignerRights:
    """Who approves a request needs the verb `approve` on its signer, who answers it the verb `sign`."""

    def __init__(self, authorize: Authorize) -> None:
        self._authorize = authorize

    def __call__(self, write: Write) -> None:
        if write.resource.group_resource != RESOURCE or write.operation != "UPDATE" or write.old is None:
            return
        if write.subresource == "approval":
            self._require(write, "approve")
        elif write.subresource == "status" and _is_answered(write):
            self._require(write, "sign")

    def _require(self, write: Write, verb: str) -> None:
        signer: str = meta.spec(write.old or write.new).get("signerName", "")
        names = (signer, f"{signer.partition('/')[0]}/*")
        asked = (Attributes(verb, "", GROUP, "*", "signers", name=name) for name in names)
        if not any(self._authorize(write.user, attributes).allowed for attributes in asked):
            raise refuse(write, f'user not permitted to {verb} requests with signerName "{signer}"')


def _is_answered(write: Write) -> bool:
    old, new = meta.status(write.old or {}), meta.status(write.new)
    return any(old.get(field) != new.get(field) for field in ("certificate", "conditions"))


def restrict_subject(write: Write) -> None:
    """Nobody becomes a superuser by a certificate that they asked for."""
    if write.resource.group_resource != RESOURCE or write.operation != "CREATE" or write.subresource:
        return
    spec = meta.spec(write.new)
    if spec.get("signerName") != CLIENT_SIGNER:
        return
    subject = x509.load_pem_x509_csr(b64decode(spec["request"])).subject
    if MASTERS in [a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]:
        raise refuse(write, f"use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed")
