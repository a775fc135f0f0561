"""IngressClass: which controller serves an Ingress."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, not_supported, required, too_long
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.networking.ingress import typed_reference
from podling.kinds.printing import NONE, age, age_column, name, name_column
from podling.kinds.validation import fields, meta, names
from podling.kinds.validation.fields import part, text
from podling.store.types import Object

_MAX_CONTROLLER: Final = 250
_SCOPES: Final = ("Cluster", "Namespace")
_DEFAULT_MARK: Final = "ingressclass.kubernetes.io/is-default-class"


def default(obj: Object) -> None:
    parameters: Object | None = obj.setdefault("spec", {}).get("parameters")
    if parameters is not None and parameters.get("scope") is None:
        parameters["scope"] = "Cluster"


def validate(write: Write) -> list[FieldError]:
    spec = part(write.new, "spec")
    errors = meta.common(write) + meta.changed(write)
    if write.old is not None:
        errors += fields.immutable(
            "spec.controller", text(spec, "controller"), text(part(write.old, "spec"), "controller")
        )
    errors += meta.whole(write) + _controller(text(spec, "controller"), "spec.controller")
    if spec.get("parameters") is not None:
        errors += _parameters(spec["parameters"], "spec.parameters")
    return errors


def _controller(controller: str, path: str) -> list[FieldError]:
    errors = [too_long(path, _MAX_CONTROLLER)] if len(controller) > _MAX_CONTROLLER else []
    return errors + fields.domain_prefixed_path(path, controller)


def _parameters(parameters: Object, path: str) -> list[FieldError]:
    errors = typed_reference(parameters, path)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if scope is None:
        return [*errors, required(f"{path}.scope")]
    if scope not in _SCOPES:
        errors.append(not_supported(f"{path}.scope", scope, _SCOPES))
    if scope == "Namespace":
        if namespace is None:
            errors.append(required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'"))
        else:
            errors += fields.check(f"{path}.namespace", namespace, names.dns1123_label)
    elif scope == "Cluster" and namespace is not None:
        detail = "`parameters.scope` is set to 'Cluster'"
        errors.append(forbidden_field(f"{path}.namespace", detail))
    return errors


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Controller", description="Controller that is responsible for handling this class"),
        Column("Parameters", description="A reference to a resource with additional parameters"),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    parameters = part(spec, "parameters")
    shown = NONE
    if parameters:
        group = text(parameters, "apiGroup")
        shown = f"{text(parameters, 'kind')}{f'.{group}' if group else ''}/{text(parameters, 'name')}"
    is_default = part(obj, "metadata", "annotations").get(_DEFAULT_MARK) == "true"
    shown_name = name(obj) + (" (default)" if is_default else "")
    return [shown_name, text(spec, "controller"), shown, age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="networking.k8s.io",
        version="v1",
        kind="IngressClass",
        plural="ingressclasses",
        singular="ingressclass",
        namespaced=False,
        schema="io.k8s.api.networking.v1.IngressClass",
        strategy=Strategy(default=default, validate=validate),
        columns=_columns(),
        row=row,
    )
