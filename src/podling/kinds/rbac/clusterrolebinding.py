"""ClusterRoleBinding: who has a role in the whole cluster."""

from __future__ import annotations

from typing import Final

from podling.api.errors import FieldError
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.rbac import rules

_ROLE: Final = (
    "RoleRef can only reference a ClusterRole in the global namespace. "
    "If the RoleRef cannot be resolved, the Authorizer must return an error."
)


def validate(write: Write) -> list[FieldError]:
    return rules.binding(write, ("ClusterRole",))


def resource() -> Resource:
    return Resource(
        group=rules.GROUP,
        version="v1",
        kind="ClusterRoleBinding",
        plural="clusterrolebindings",
        singular="clusterrolebinding",
        namespaced=False,
        schema="io.k8s.api.rbac.v1.ClusterRoleBinding",
        strategy=Strategy(create_on_update=True, default=rules.default_binding, validate=validate, generation=None),
        columns=rules.binding_columns("clusterRoleBinding", _ROLE),
        row=rules.binding_row,
    )
