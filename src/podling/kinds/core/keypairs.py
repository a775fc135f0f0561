"""What Go's `tls.X509KeyPair` says of a certificate and a key that do not belong together."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from podling.kinds.validation.pem import blocks

_CERTIFICATE: Final = "CERTIFICATE"
_KEY: Final = "PRIVATE KEY"


def problem(certificate: bytes, key: bytes) -> str:
    """The first thing that is wrong with the pair, or nothing."""
    certificates, skipped = _found(certificate, lambda kind: kind == _CERTIFICATE)
    if not certificates:
        return _no_certificate(skipped)
    keys, skipped = _found(key, lambda kind: kind == _KEY or kind.endswith(" " + _KEY))
    return _mismatch(certificates[0], keys[0]) if keys else _no_key(skipped)


def _found(pem: bytes, wanted: Callable[[str], bool]) -> tuple[list[bytes], list[str]]:
    """The contents of the blocks of one kind, and the kinds of the others."""
    found: list[bytes] = []
    skipped: list[str] = []
    for kind, body in blocks(pem):
        try:
            content = base64.b64decode(b"".join(body.split()), validate=True)
        except binascii.Error:
            continue
        if wanted(kind):
            found.append(content)
        else:
            skipped.append(kind)
    return found, skipped


def _no_certificate(skipped: list[str]) -> str:
    if not skipped:
        return "tls: failed to find any PEM data in certificate input"
    if len(skipped) == 1 and skipped[0].endswith(_KEY):
        return (
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may "
            "have been switched"
        )
    kinds = " ".join(skipped)
    return (
        f'tls: failed to find "{_CERTIFICATE}" PEM block in certificate input after skipping PEM blocks of the '
        f"following types: [{kinds}]"
    )


def _no_key(skipped: list[str]) -> str:
    if not skipped:
        return "tls: failed to find any PEM data in key input"
    if skipped == [_CERTIFICATE]:
        return "tls: found a certificate rather than a key in the PEM for the private key"
    kinds = " ".join(skipped)
    return (
        f'tls: failed to find PEM block with type ending in "{_KEY}" in key input after skipping PEM blocks of the '
        f"following types: [{kinds}]"
    )


def _mismatch(certificate: bytes, key: bytes) -> str:
    try:
        public = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "x509: malformed certificate"
    try:
        private = serialization.load_der_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "tls: failed to parse private key"
    own = private.public_key()
    if type(own) is not type(public):
        return "tls: private key type does not match public key type"
    shape = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return (
        "" if own.public_bytes(*shape) == public.public_bytes(*shape) else "tls: private key does not match public key"
    )
