"""APIService: where a group of the API is served; by this server, or by another behind a service."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, invalid_value, required
from podling.api.gotext import quoted
from podling.api.meta import condition, timestamp
from podling.api.resources import STATUS_ALONE, Column, Resource, Strategy, Write
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import age, age_column, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, part, text
from podling.kinds.validation.meta import changed, common, metadata
from podling.store.types import Object


def default(obj: Object) -> None:
    service: Object | None = obj.setdefault("spec", {}).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443
    obj.setdefault("status", {})


def prepare(write: Write) -> None:
    """What this server serves itself is there at once."""
    keep_status(write)
    if write.old is None and part(write.new, "spec").get("service") is None:
        available = {
            "type": "Available",
            "status": "True",
            "lastTransitionTime": timestamp(write.now),
            "reason": "Local",
            "message": "Local APIServices are always available",
        }
        write.new["status"] = {"conditions": [available]}


def validate(write: Write) -> list[FieldError]:
    if write.subresource == "status":
        return common(write) + changed(write, any_finalizer=True) + _conditions(part(write.new, "status"))
    spec = part(write.new, "spec")
    wanted = f"{text(spec, 'version')}.{text(spec, 'group')}"

    def rule(value: str, _prefix: bool) -> list[str]:
        unusable = names.path_segment(value)
        return unusable or ([] if value == wanted else [f'must be `spec.version+"."+spec.group`: {quoted(wanted)}'])

    errors = common(write) + changed(write, any_finalizer=True) + metadata(write.new, namespaced=False, name=rule)
    return errors + _spec(spec, "spec")


def _spec(spec: Object, path: str) -> list[FieldError]:
    group, version = text(spec, "group"), text(spec, "version")
    errors: list[FieldError] = []
    if group:
        errors += fields.check(f"{path}.group", group, names.dns1123_subdomain)
    elif version != "v1":
        detail = "only v1 may have an empty group and it better be legacy kube"
        errors.append(required(f"{path}.group", detail))
    errors += fields.check(f"{path}.version", version, names.dns1035_label)
    for key, most in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        value = spec.get(key) or 0
        if not 0 < value <= most:
            errors.append(invalid_value(f"{path}.{key}", value, f"must be positive and less than {most}"))
    return errors + (_local(spec, path) if spec.get("service") is None else _remote(spec, path))


def _local(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if bundle := text(spec, "caBundle"):
        shown = f"{len(base64.b64decode(bundle))} bytes"
        errors.append(invalid_value(f"{path}.caBundle", shown, "local APIServices may not have a caBundle"))
    if spec.get("insecureSkipTLSVerify"):
        detail = "local APIServices may not have insecureSkipTLSVerify"
        errors.append(invalid_value(f"{path}.insecureSkipTLSVerify", True, detail))
    return errors


def _remote(spec: Object, path: str) -> list[FieldError]:
    service: Object = part(spec, "service")
    errors = [required(f"{path}.service.{key}") for key in ("namespace", "name") if not text(service, key)]
    port = service.get("port", 443)
    if wrong := names.port_number(port):
        errors.append(invalid_value(f"{path}.service.port", port, f"port is not valid: {', '.join(wrong)}"))
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        detail = "may not be true if caBundle is present"
        errors.append(invalid_value(f"{path}.insecureSkipTLSVerify", True, detail))
    return errors


def _conditions(status: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, found in each("status.conditions", status.get("conditions")):
        errors += fields.one_of(f"{at}.status", text(found, "status"), ("True", "False", "Unknown"))
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
        strategy=Strategy(
            unconditional_update=False,
            default=default,
            prepare=prepare,
            validate=validate,
            generation=None,
            resets=STATUS_ALONE,
        ),
        columns=_columns(),
        row=row,
    )
