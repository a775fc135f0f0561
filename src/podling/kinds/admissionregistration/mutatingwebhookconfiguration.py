"""MutatingWebhookConfiguration: webhooks that may change what is written."""

from __future__ import annotations

from podling.api.resources import Resource, Strategy
from podling.kinds.admissionregistration import webhooks


def resource() -> Resource:
    return Resource(
        group="admissionregistration.k8s.io",
        version="v1",
        kind="MutatingWebhookConfiguration",
        plural="mutatingwebhookconfigurations",
        singular="mutatingwebhookconfiguration",
        namespaced=False,
        schema="io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
        categories=("api-extensions",),
        strategy=Strategy(
            unconditional_update=False,
            default=webhooks.default_mutating,
            validate=webhooks.validate_mutating,
            generation=webhooks.generation,
        ),
        columns=webhooks.columns(),
        row=webhooks.row,
    )
