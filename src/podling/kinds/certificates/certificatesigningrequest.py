"""CertificateSigningRequest."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="certificates.k8s.io",
        version="v1",
        kind="CertificateSigningRequest",
        plural="certificatesigningrequests",
        singular="certificatesigningrequest",
        namespaced=False,
        schema="io.k8s.api.certificates.v1.CertificateSigningRequest",
        short_names=("csr",),
        status=True,
        subresources=("approval",),
    )
