"""ValidatingWebhookConfiguration."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="admissionregistration.k8s.io",
        version="v1",
        kind="ValidatingWebhookConfiguration",
        plural="validatingwebhookconfigurations",
        singular="validatingwebhookconfiguration",
        namespaced=False,
        schema="io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
        categories=("api-extensions",),
    )
