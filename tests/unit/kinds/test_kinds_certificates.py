"""Requests for certificates: who may say what of them, and what a certificate is."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ann")])


def pem_of(thing):
    return thing.public_bytes(serialization.Encoding.PEM)


REQUEST = pem_of(x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(KEY, hashes.SHA256()))
CERTIFICATE = pem_of(
    x509.CertificateBuilder()
    .subject_name(NAME)
    .issuer_name(NAME)
    .public_key(KEY.public_key())
    .serial_number(1)
    .not_valid_before(NOON)
    .not_valid_after(NOON + timedelta(days=1))
    .sign(KEY, hashes.SHA256())
)


def request(*conditions, **status):
    spec = {"request": b64encode(REQUEST).decode(), "signerName": "example.com/own", "usages": ["client auth"]}
    return {"metadata": {"name": "r", "uid": "u"}, "spec": spec, "status": {"conditions": [*conditions], **status}}


def answer(kind, **fields):
    times = {"lastUpdateTime": "2026-01-01T11:00:00Z", "lastTransitionTime": "2026-01-01T11:00:00Z"}
    return {"type": kind, "status": "True", **times, **fields}


@pytest.fixture
def update(kinds, writes):
    def run(new, old):
        resource = kinds["certificatesigningrequests.certificates.k8s.io/v1"]
        write = writes(resource, new, old, subresource="status")
        return write, [str(error) for error in resource.strategy.validate(write)]

    return run


def test_who_signs_changes_no_word_of_the_approval(update) -> None:
    old = request(answer("Approved", message="by ann"))
    write, errors = update(request(answer("Approved", message="by bob")), old)
    assert errors == []
    assert write.new["status"]["conditions"] == [answer("Approved", message="by ann")]


def test_who_signs_neither_approves_nor_takes_it_back(update) -> None:
    _, errors = update(request(answer("Denied")), request())
    assert errors == ['status.conditions: Forbidden: updates may not add a condition of type "Denied"']
    _, errors = update(request(), request(answer("Denied")))
    assert errors == ['status.conditions: Forbidden: updates may not remove a condition of type "Denied"']


HEADED = CERTIFICATE.replace(b"-----\n", b"-----\nA: b\n\n", 1)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (CERTIFICATE, ""),
        (b"no certificate", "must contain at least one CERTIFICATE PEM block"),
        (REQUEST, 'only CERTIFICATE PEM blocks are allowed, found "CERTIFICATE REQUEST"'),
        (HEADED, "no PEM block headers are permitted"),
        (CERTIFICATE.replace(b"MII", b"AII", 1), "x509: malformed certificate"),
        (CERTIFICATE + REQUEST, 'only CERTIFICATE PEM blocks are allowed, found "CERTIFICATE REQUEST"'),
    ],
    ids=["good", "none", "other", "headed", "malformed", "mixed"],
)
def test_what_is_signed_is_certificates(update, content: bytes, why: str) -> None:
    _, errors = update(request(certificate=b64encode(content).decode()), request())
    assert errors == ([f'status.certificate: Invalid value: "<certificate data>": {why}'] if why else [])
