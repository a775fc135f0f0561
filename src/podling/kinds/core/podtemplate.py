"""PodTemplate: a template of pods that stands alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds import printing
from podling.kinds.core import poddefaults, podfeatures, podspec, podwarnings
from podling.kinds.printing import containers, name, name_column
from podling.kinds.validation.fields import part
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def default(obj: Object) -> None:
    poddefaults.pod_template(obj.setdefault("template", {}))


def prepare(write: Write) -> None:
    podfeatures.drop_disabled(part(write.new, "template", "spec"), part(write.old or {}, "template", "spec"))


def warn(write: Write) -> None:
    if write.old is None or _template_differs(write.old, write.new):
        write.warnings += podwarnings.of_template(part(write.new, "template"), "template")


def validate(write: Write) -> list[FieldError]:
    return object_meta(write) + podspec.template(part(write.new, "template"), "template")


def _template_differs(old: Object, new: Object) -> bool:
    return old.get("template") != new.get("template")


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Containers", description="Names of each container in the template."),
        Column("Images", description="Images referenced by each container in the template."),
        Column("Pod Labels", description="The labels for the pod template."),
    )


def row(obj: Object, now: datetime) -> list[Any]:  # noqa: ARG001  a Row: it shows no age
    template = part(obj, "template")
    return [name(obj), *containers(template), printing.labels(part(template, "metadata").get("labels"))]


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="PodTemplate",
        plural="podtemplates",
        singular="podtemplate",
        namespaced=True,
        schema="io.k8s.api.core.v1.PodTemplate",
        strategy=Strategy(default=default, prepare=prepare, validate=validate, warn=warn, generation=_template_differs),
        columns=_columns(),
        row=row,
    )
