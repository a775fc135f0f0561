"""The signers of a cluster: from an approved request for a certificate to the certificate.

What each signer takes is in "Certificate Signing Requests: Kubernetes signers" of the documentation. Subject and
alternative names are the request's, everything else is the signer's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from podling.auth.identities import NODE_PREFIX, NODES
from podling.auth.pki import LEAF_LIFETIME, Authority
from podling.controllers.csrsigning import SigningRefused

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"
BACKDATE = timedelta(minutes=5)
"""Certificates begin to be valid this much in the past, for parties whose clock is behind."""
SHORTEST = timedelta(minutes=10)
SHORT = timedelta(hours=8)
"""The end of a certificate that lives no longer than this is not moved into the past with its beginning."""

KEY_USAGES: Mapping[str, str] = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
}
EXTENDED_USAGES: Mapping[str, x509.ObjectIdentifier] = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec end system": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft sgc": x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": x509.ObjectIdentifier("2.16.840.1.113730.4.1"),
}
"""In the order in which a certificate names them."""

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
Rule = Callable[[x509.CertificateSigningRequest, Sequence[str]], str]
"""What a signer has against a request with these usages; `""` for nothing."""


def signers(authority: Authority, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> dict[str, Signer]:
    """The signers of the cluster's authority, by their names."""
    rules = {
        CLIENT: _client_rule,
        KUBELET_CLIENT: kubelet_client_rule,
        KUBELET_SERVING: _kubelet_serving_rule,
        LEGACY_UNKNOWN: _no_rule,
    }
    return {name: Signer(authority, rule, clock) for name, rule in rules.items()}


@dataclass(frozen=True, slots=True)
class Signer:
    """See `podling.controllers.csrsigning.Signer`."""

    authority: Authority
    rule: Rule
    clock: Callable[[], datetime]

    def sign(self, request: bytes, usages: list[str], seconds: int | None) -> bytes:
        """The certificate (PEM) for a PKCS#10 request (PEM). Raises `SigningRefused`."""
        asked = x509.load_pem_x509_csr(request)
        if not asked.is_signature_valid:
            raise SigningRefused("unable to verify certificate request signature")
        if problem := self.rule(asked, usages):
            raise SigningRefused(problem)
        certificate = self._builder(asked, usages, seconds).sign(self.authority.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(
        self, asked: x509.CertificateSigningRequest, usages: Sequence[str], seconds: int | None
    ) -> x509.CertificateBuilder:
        public = asked.public_key()
        if not isinstance(public, PublicKey):
            raise SigningRefused("unsupported public key type")
        now, issuer = self.clock(), self.authority.certificate
        lifetime = LEAF_LIFETIME
        if seconds is not None:
            lifetime = min(LEAF_LIFETIME, max(SHORTEST, timedelta(seconds=seconds)))
        ends = now + lifetime - (BACKDATE if lifetime >= SHORT else timedelta())
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(asked.subject)
            .issuer_name(issuer.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(min(ends, issuer.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(usages), critical=True)
            .add_extension(authority_key, critical=False)
        )
        extended = list(dict.fromkeys(oid for usage, oid in EXTENDED_USAGES.items() if usage in usages))
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        names = _alternative_names(asked)
        return builder.add_extension(names, critical=False) if names is not None else builder


def _key_usage(usages: Sequence[str]) -> x509.KeyUsage:
    wanted = {KEY_USAGES[usage] for usage in usages if usage in KEY_USAGES}
    return x509.KeyUsage(
        **{name: name in wanted for name in dict.fromkeys(KEY_USAGES.values())},
        encipher_only="encipher only" in usages and "key_agreement" in wanted,
        decipher_only="decipher only" in usages and "key_agreement" in wanted,
    )


def _alternative_names(asked: x509.CertificateSigningRequest) -> x509.SubjectAlternativeName | None:
    try:
        return asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def organizations(asked: x509.CertificateSigningRequest) -> list[str]:
    return [str(a.value) for a in asked.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def common_name(asked: x509.CertificateSigningRequest) -> str:
    """`""` where there is none; of several the last counts."""
    names = asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""


# The rules


def _no_rule(_asked: x509.CertificateSigningRequest, _usages: Sequence[str]) -> str:
    return ""


def _client_rule(_asked: x509.CertificateSigningRequest, usages: Sequence[str]) -> str:
    allowed = ("digital signature", "key encipherment", "client auth")
    unknown = next((usage for usage in usages if usage not in allowed), "")
    if unknown:
        return f"invalid usage for client certificate: {unknown}"
    return "" if "client auth" in usages else "missing required usage for client certificate: client auth"


def kubelet_client_rule(asked: x509.CertificateSigningRequest, usages: Sequence[str]) -> str:
    return _node_group(asked) or _no_names(asked) or _node_name(asked) or _node_usages("client auth", usages)


def _kubelet_serving_rule(asked: x509.CertificateSigningRequest, usages: Sequence[str]) -> str:
    return _node_group(asked) or _host_names(asked) or _node_usages("server auth", usages) or _node_name(asked)


def _node_group(asked: x509.CertificateSigningRequest) -> str:
    return "" if organizations(asked) == [NODES] else f"subject organization is not {NODES}"


def _node_name(asked: x509.CertificateSigningRequest) -> str:
    wrong = f"subject common name does not begin with {NODE_PREFIX}"
    return "" if common_name(asked).startswith(NODE_PREFIX) else wrong


_NAME_KINDS: tuple[tuple[type[x509.GeneralName], str], ...] = (
    (x509.DNSName, "DNS"),
    (x509.RFC822Name, "Email"),
    (x509.IPAddress, "IP"),
    (x509.UniformResourceIdentifier, "URI"),
)


def _kinds_of_names(asked: x509.CertificateSigningRequest) -> list[str]:
    names = list(_alternative_names(asked) or ())
    return [word for kind, word in _NAME_KINDS if any(isinstance(name, kind) for name in names)]


def _no_names(asked: x509.CertificateSigningRequest) -> str:
    present = _kinds_of_names(asked)
    return f"{present[0]} subjectAltNames are not allowed" if present else ""


def _host_names(asked: x509.CertificateSigningRequest) -> str:
    present = _kinds_of_names(asked)
    if "DNS" not in present and "IP" not in present:
        return "DNS or IP subjectAltName is required"
    return next((f"{kind} subjectAltNames are not allowed" for kind in ("Email", "URI") if kind in present), "")


def _node_usages(purpose: str, usages: Sequence[str]) -> str:
    if {*usages} - {"key encipherment"} == {"digital signature", purpose}:
        return ""
    return f"usages did not match [{' '.join(sorted(('digital signature', 'key encipherment', purpose)))}]"
