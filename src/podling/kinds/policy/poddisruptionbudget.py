"""PodDisruptionBudget."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="policy",
        version="v1",
        kind="PodDisruptionBudget",
        plural="poddisruptionbudgets",
        singular="poddisruptionbudget",
        namespaced=True,
        schema="io.k8s.api.policy.v1.PodDisruptionBudget",
        short_names=("pdb",),
        status=True,
    )
