"""The cluster's own certificate authority and the few certificates that it signs.

Everything is made once, when a cluster is created, and lives in `<state>/pki` under kubeadm's file names. Keys are
EC P-256: ten milliseconds for the whole set. `ca.crt` is also what `kube-root-ca.crt` publishes to pods.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)
CLOCK_SKEW = timedelta(hours=1)
"""Certificates begin to be valid this much in the past, for clients whose clock is behind."""


@dataclass(frozen=True, slots=True)
class Pki:
    """Where the files are. All exist after `ensure`."""

    directory: Path

    @property
    def ca_cert(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def ca_key(self) -> Path:
        return self.directory / "ca.key"

    @property
    def server_cert(self) -> Path:
        return self.directory / "apiserver.crt"

    @property
    def server_key(self) -> Path:
        return self.directory / "apiserver.key"

    @property
    def admin_cert(self) -> Path:
        return self.directory / "admin.crt"

    @property
    def admin_key(self) -> Path:
        return self.directory / "admin.key"

    @property
    def proxy_ca_cert(self) -> Path:
        return self.directory / "front-proxy-ca.crt"

    @property
    def proxy_ca_key(self) -> Path:
        return self.directory / "front-proxy-ca.key"

    @property
    def proxy_client_cert(self) -> Path:
        return self.directory / "front-proxy-client.crt"

    @property
    def proxy_client_key(self) -> Path:
        return self.directory / "front-proxy-client.key"

    @property
    def service_account_key(self) -> Path:
        return self.directory / "sa.key"


def ensure(directory: Path, *, server_names: Iterable[str], now: datetime | None = None) -> Pki:
    """Makes what is missing in `directory`, and signs again what ends within 30 days.

    `server_names` are the DNS names and IP addresses under which the API server is reached.
    """
    moment = now or datetime.now(UTC)
    pki = Pki(directory)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not pki.ca_cert.exists():
        _make_authority(pki.ca_cert, pki.ca_key, "kubernetes", moment)
    if not pki.proxy_ca_cert.exists():
        _make_authority(pki.proxy_ca_cert, pki.proxy_ca_key, "front-proxy-ca", moment)
    if not pki.service_account_key.exists():
        _write(pki.service_account_key, _pem(_new_key()), 0o600)
    authority = Authority.load(pki.ca_cert, pki.ca_key)
    if _ends_soon(pki.server_cert, moment):
        _issue(
            pki.server_cert,
            pki.server_key,
            authority,
            common_name="kube-apiserver",
            usage=ExtendedKeyUsageOID.SERVER_AUTH,
            names=server_names,
            now=moment,
        )
    if _ends_soon(pki.admin_cert, moment):
        _issue(
            pki.admin_cert,
            pki.admin_key,
            authority,
            common_name="kubernetes-admin",
            organizations=["system:masters"],
            usage=ExtendedKeyUsageOID.CLIENT_AUTH,
            now=moment,
        )
    if _ends_soon(pki.proxy_client_cert, moment):
        _issue(
            pki.proxy_client_cert,
            pki.proxy_client_key,
            Authority.load(pki.proxy_ca_cert, pki.proxy_ca_key),
            common_name="front-proxy-client",
            usage=ExtendedKeyUsageOID.CLIENT_AUTH,
            now=moment,
        )
    return pki


@dataclass(frozen=True, slots=True)
class Authority:
    """A loaded CA."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def load(cls, cert: Path, key: Path) -> Authority:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key} is not an EC private key")
        return cls(x509.load_pem_x509_certificate(cert.read_bytes()), private)


def _make_authority(cert_path: Path, key_path: Path, common_name: str, now: datetime) -> None:
    key = _new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        _builder(name, name, key.public_key(), now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _pem(key), 0o600)
    _write(cert_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _issue(
    cert_path: Path,
    key_path: Path,
    authority: Authority,
    *,
    common_name: str,
    usage: x509.ObjectIdentifier,
    now: datetime,
    organizations: Iterable[str] = (),
    names: Iterable[str] = (),
) -> None:
    key = _new_key()
    subject = x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    builder = (
        _builder(subject, authority.certificate.subject, key.public_key(), now, LEAF_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    alternatives = [_general_name(n) for n in names]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    _write(key_path, _pem(key), 0o600)
    _write(cert_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _ends_soon(cert: Path, now: datetime) -> bool:
    if not cert.exists():
        return True
    return x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc < now + RENEW_BEFORE


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by others in between."""
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    temporary.rename(path)
