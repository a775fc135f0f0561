"""APIService: where a group of the API is served; by this server, or by another behind a service."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, invalid_value, required
from podling.api.meta import condition
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import age, age_column, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def default(obj: Object) -> None:
    service: Object | None = obj.setdefault("spec", {}).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443
    obj.setdefault("status", {})


def validate(write: Write) -> list[FieldError]:
    spec = part(write.new, "spec")
    wanted = f"{text(spec, 'version')}.{text(spec, 'group')}"

    def rule(value: str, prefix: bool) -> list[str]:
        return [] if value == wanted and not prefix else ['must be `spec.version+"."+spec.group`']

    errors = object_meta(write, rule)
    if group := text(spec, "group"):
        errors += fields.check("spec.group", group, names.dns1123_subdomain)
    errors += fields.check_required("spec.version", text(spec, "version"), names.dns1035_label)
    for key, most in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        value = spec.get(key) or 0
        if not 0 < value <= most:
            errors.append(invalid_value(f"spec.{key}", value, f"must be positive and less than {most}"))
    return errors + _service(spec)


def _service(spec: Object) -> list[FieldError]:
    service: Object | None = spec.get("service")
    if service is None:
        return []
    errors = [required(f"spec.service.{key}") for key in ("namespace", "name") if not text(service, key)]
    errors += fields.port("spec.service.port", service.get("port", 443))
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        detail = "may not be true if caBundle is present"
        errors.append(invalid_value("spec.insecureSkipTLSVerify", True, detail))
    return errors


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Service", description="The reference to the service that hosts this API endpoint."),
        Column("Available", description="Whether this service is available."),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    service = part(obj, "spec", "service")
    shown = f"{text(service, 'namespace')}/{text(service, 'name')}" if service else "Local"
    found = condition(obj, "Available")
    available = text(found or {}, "status") or "Unknown"
    if found is not None and available != "True":
        available = f"{available} ({text(found, 'reason')})"
    return [name(obj), shown, available, age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="apiregistration.k8s.io",
        version="v1",
        kind="APIService",
        plural="apiservices",
        singular="apiservice",
        namespaced=False,
        schema="io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
        categories=("api-extensions",),
        status=True,
        strategy=Strategy(default=default, prepare=keep_status, validate=validate, generation=None),
        columns=_columns(),
        row=row,
    )
