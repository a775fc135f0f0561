"""ServiceAccount: who a pod is when it talks to the API."""

from __future__ import annotations

from typing import Final

from podling.api.errors import FieldError
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.printing import age_columns, age_row
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import changed, common, whole

_ONLY_LISTED: Final = "kubernetes.io/enforce-mountable-secrets"


def prepare(write: Write) -> None:
    """A reference to a secret is its name; the account's namespace is the only one it can be in."""
    if secrets := write.new.get("secrets"):
        write.new["secrets"] = [{"name": name} if (name := text(secret, "name")) else {} for secret in secrets]


def validate(write: Write) -> list[FieldError]:
    return common(write) + changed(write) + whole(write)


def warn(write: Write) -> None:
    annotated = [_ONLY_LISTED in part(obj or {}, "metadata", "annotations") for obj in (write.old, write.new)]
    if annotated == [False, True]:
        write.warnings.append(
            f"metadata.annotations[{_ONLY_LISTED}]: deprecated in v1.32+; prefer separate namespaces to isolate access "
            "to mounted secrets"
        )


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="ServiceAccount",
        plural="serviceaccounts",
        singular="serviceaccount",
        namespaced=True,
        schema="io.k8s.api.core.v1.ServiceAccount",
        short_names=("sa",),
        subresources=("token",),
        strategy=Strategy(prepare=prepare, validate=validate, warn=warn, generation=None, returns_deleted=True),
        columns=age_columns(),
        row=age_row,
    )
