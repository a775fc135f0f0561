"""ReplicaSet: a number of pods of one template."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError
from podling.api.resources import Column, Resource, ScalePaths, Strategy, Write
from podling.kinds import printing
from podling.kinds.core import poddefaults, workload
from podling.kinds.printing import age_column, doc, name_column, template_columns
from podling.kinds.validation import fields, meta
from podling.kinds.validation.fields import part
from podling.store.types import Object


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    workload.fill(spec, replicas=1)
    poddefaults.pod_template(spec.setdefault("template", {}))
    obj.setdefault("status", {}).setdefault("replicas", 0)


def validate(write: Write) -> list[FieldError]:
    errors = meta.object_meta(write)
    if write.subresource == "status":
        return errors + workload.replica_status(part(write.new, "status"))
    spec = part(write.new, "spec")
    errors += _spec(spec, "spec")
    if write.old is None:
        return errors
    return errors + fields.immutable_selector(spec, part(write.old, "spec"))


def _spec(spec: Object, path: str) -> list[FieldError]:
    errors = fields.non_negative(f"{path}.replicas", spec.get("replicas"))
    errors += fields.non_negative(f"{path}.minReadySeconds", spec.get("minReadySeconds"))
    errors += workload.selector(spec, path, "deployment")
    return errors + workload.template(spec, path, "ReplicaSet")


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Desired", "integer", description=doc("apps.v1.ReplicaSetSpec.replicas")),
        Column("Current", "integer", description=doc("apps.v1.ReplicaSetStatus.replicas")),
        Column("Ready", "integer", description=doc("apps.v1.ReplicaSetStatus.readyReplicas")),
        age_column(),
        *template_columns(doc("apps.v1.ReplicaSetSpec.selector")),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    return printing.replica_row(obj, now, printing.selector(part(obj, "spec").get("selector")))


def resource() -> Resource:
    return Resource(
        group="apps",
        version="v1",
        kind="ReplicaSet",
        plural="replicasets",
        singular="replicaset",
        namespaced=True,
        schema="io.k8s.api.apps.v1.ReplicaSet",
        short_names=("rs",),
        categories=("all",),
        status=True,
        scale=ScalePaths(),
        strategy=Strategy(
            default=default, prepare=workload.keep_replica_status, validate=validate, warn=workload.warn_named_template
        ),
        columns=_columns(),
        row=row,
    )
