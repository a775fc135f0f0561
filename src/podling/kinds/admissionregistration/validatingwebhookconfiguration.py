"""ValidatingWebhookConfiguration: webhooks that may refuse what is written."""

from __future__ import annotations

from podling.api.resources import Resource, Strategy
from podling.kinds.admissionregistration import webhooks


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
        strategy=Strategy(
            unconditional_update=False,
            default=webhooks.default,
            validate=webhooks.validate,
            generation=webhooks.generation,
        ),
        columns=webhooks.columns(),
        row=webhooks.row,
    )
