"""ClusterRoleBinding: who has a role in the whole cluster."""

from __future__ import annotations

from podling.api.errors import FieldError
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.printing import doc
from podling.kinds.rbac import rules


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
        strategy=Strategy(default=rules.default_binding, validate=validate, generation=None),
        columns=rules.binding_columns("clusterRoleBinding", doc("rbac.v1.ClusterRoleBinding.roleRef")),
        row=rules.binding_row,
    )
