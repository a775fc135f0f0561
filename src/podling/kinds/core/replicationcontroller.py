"""ReplicationController: the ReplicaSet's elder, which selects by plain labels."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, invalid_value, required
from podling.api.meta import matches_labels
from podling.api.resources import Column, Resource, ScalePaths, Strategy, Write
from podling.kinds import printing
from podling.kinds.core import poddefaults, podspec, podwarnings, workload
from podling.kinds.printing import age_column, doc, name_column, template_columns
from podling.kinds.validation import fields
from podling.kinds.validation.fields import part
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    labels = part(spec, "template", "metadata").get("labels")
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        meta: Object = obj.setdefault("metadata", {})
        if not meta.get("labels"):
            meta["labels"] = dict(labels)
    workload.fill(spec, replicas=1)
    if spec.get("template") is not None:
        poddefaults.pod_template(spec["template"])
    obj.setdefault("status", {}).setdefault("replicas", 0)


def validate(write: Write) -> list[FieldError]:
    if write.subresource == "status":
        return object_meta(write) + workload.replica_status(part(write.new, "status"))
    return object_meta(write) + _spec(part(write.new, "spec"), "spec")


def _spec(spec: Object, path: str) -> list[FieldError]:
    errors = fields.non_negative(f"{path}.minReadySeconds", spec.get("minReadySeconds"))
    selector: Object = part(spec, "selector")
    if not selector:
        errors.append(required(f"{path}.selector"))
    errors += fields.non_negative(f"{path}.replicas", spec.get("replicas"))
    template: Object | None = spec.get("template")
    if template is None:
        return [*errors, required(f"{path}.template")]
    labels = part(template, "metadata").get("labels")
    if selector and not matches_labels(selector, labels or {}):
        detail = "`selector` does not match template `labels`"
        errors.append(invalid_value(f"{path}.template.metadata.labels", labels or None, detail))
    errors += podspec.template(template, f"{path}.template")
    return errors + podspec.always_restarting(part(template, "spec"), f"{path}.template.spec", "ReplicationController")


def warn(write: Write) -> None:
    """An update tells of the template as it was: Kubernetes mixes the two up."""
    if write.old is None:
        workload.warn_named_template(write)
    elif not write.subresource and workload.generation(write.new) != workload.generation(write.old):
        write.warnings += podwarnings.of_template(part(write.old, "spec", "template"), "spec.template")


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Desired", "integer", description=doc("core.v1.ReplicationControllerSpec.replicas")),
        Column("Current", "integer", description=doc("core.v1.ReplicationControllerStatus.replicas")),
        Column("Ready", "integer", description=doc("core.v1.ReplicationControllerStatus.readyReplicas")),
        age_column(),
        *template_columns(doc("core.v1.ReplicationControllerSpec.selector")),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    return printing.replica_row(obj, now, printing.labels(part(obj, "spec").get("selector")))


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="ReplicationController",
        plural="replicationcontrollers",
        singular="replicationcontroller",
        namespaced=True,
        schema="io.k8s.api.core.v1.ReplicationController",
        short_names=("rc",),
        categories=("all",),
        status=True,
        scale=ScalePaths(),
        strategy=Strategy(
            default=default,
            prepare=workload.keep_replica_status,
            validate=validate,
            warn=warn,
            default_propagation="Orphan",
        ),
        columns=_columns(),
        row=row,
        selectable={"status.replicas": workload.status_replicas},
    )
