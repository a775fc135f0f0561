"""Ingress: which host and path leads to which service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, invalid_value, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.printing import NONE, age, age_column, name, name_column
from podling.kinds.validation import fields, meta, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"
_PATH_TYPES: Final = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_SEQUENCES: Final = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDINGS: Final = ("/..", "/.")
_SHOWN_HOSTS: Final = 3


def default(obj: Object) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def prepare(write: Write) -> None:
    if write.old is None:
        write.new["status"] = {"loadBalancer": {}}
    elif write.subresource != "status":
        write.new["status"] = write.old.get("status") or {"loadBalancer": {}}


def validate(write: Write) -> list[FieldError]:
    if write.subresource == "status":
        return meta.object_meta(write) + _status(part(write.new, "status", "loadBalancer"))
    errors = meta.common(write) + meta.changed(write) + meta.whole(write)
    spec = part(write.new, "spec")
    annotation = part(write.new, "metadata", "annotations").get(_CLASS_ANNOTATION)
    errors += _spec(spec)
    if write.old is None and annotation is not None and spec.get("ingressClassName") not in (None, annotation):
        detail = "must match `ingressClassName` when both are specified"
        errors.append(invalid_value(f"annotations.{_CLASS_ANNOTATION}", annotation, detail))
    return errors


def _spec(spec: Object) -> list[FieldError]:
    rules: Sequence[Object] = entries(spec, "rules")
    backend: Object | None = spec.get("defaultBackend")
    errors: list[FieldError] = []
    if not rules and backend is None:
        # Kubernetes reports the rules where it means the whole spec.
        detail = "either `defaultBackend` or `rules` must be specified"
        errors.append(invalid_value("spec", spec.get("rules"), detail))
    if backend is not None:
        errors += _backend(backend, "spec.defaultBackend")
    for at, rule in each("spec.rules", rules):
        errors += _rule(rule, at)
    for at, tls in each("spec.tls", spec.get("tls")):
        errors += _tls(tls, at)
    if (class_ := spec.get("ingressClassName")) is not None:
        errors += fields.check("spec.ingressClassName", class_, names.dns1123_subdomain)
    return errors


def _host(host: str, path: str) -> list[FieldError]:
    if "*" in host:
        return fields.check(path, host, names.wildcard_dns1123_subdomain)
    return fields.check(path, host, names.dns1123_subdomain)


def _rule(rule: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if host := text(rule, "host"):
        if names.parse_ip(host):
            errors.append(invalid_value(f"{path}.host", host, "must be a DNS name, not an IP address"))
        errors += _host(host, f"{path}.host")
    http: Object | None = rule.get("http")
    if http is None:
        return errors
    paths: Sequence[Object] = entries(http, "paths")
    if not paths:
        errors.append(required(f"{path}.http.paths"))
    for at, item in each(f"{path}.http.paths", paths):
        errors += _path(item, at)
    return errors


def _path(item: Object, path: str) -> list[FieldError]:
    kind, value = item.get("pathType"), text(item, "path")
    if kind is None:
        return [required(f"{path}.pathType", "pathType must be specified")]
    errors: list[FieldError] = []
    match kind:
        case "Exact" | "Prefix":
            if not value.startswith("/"):
                errors.append(invalid_value(f"{path}.path", value, "must be an absolute path"))
            if value:
                errors += _clean(value, f"{path}.path")
        case "ImplementationSpecific":
            if value and not value.startswith("/"):
                errors.append(invalid_value(f"{path}.path", value, "must be an absolute path"))
        case _:
            errors += fields.one_of(f"{path}.pathType", kind, _PATH_TYPES)
    return errors + _backend(part(item, "backend"), f"{path}.backend")


def _clean(value: str, path: str) -> list[FieldError]:
    errors = [invalid_value(path, value, f"must not contain '{bad}'") for bad in _BAD_SEQUENCES if bad in value]
    return errors + [
        invalid_value(path, value, f"cannot end with '{bad}'") for bad in _BAD_ENDINGS if value.endswith(bad)
    ]


def _backend(backend: Object, path: str) -> list[FieldError]:
    service: Object | None = backend.get("service")
    other: Object | None = backend.get("resource")
    if other is not None and service is not None:
        return [invalid_value(path, "", "cannot set both resource and service backends")]
    if other is not None:
        return typed_reference(other, f"{path}.resource")
    if service is None:
        return [invalid_value(path, "", "resource or service backend is required")]
    errors = fields.check_required(f"{path}.service.name", text(service, "name"), names.dns1123_label)
    return errors + _port(part(service, "port"), path)


def _port(port: Object, path: str) -> list[FieldError]:
    """A port that is not one port is told of the backend."""
    named, number = text(port, "name"), port.get("number") or 0
    if named and number:
        return [invalid_value(path, "", "cannot set both port name & port number")]
    if named:
        return fields.check(f"{path}.service.port.name", named, names.port_name)
    if number:
        return fields.port(f"{path}.service.port.number", number)
    return [required(path, "port name or number is required")]


def typed_reference(reference: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if (group := reference.get("apiGroup")) is not None:
        errors += fields.check(f"{path}.apiGroup", group, names.dns1123_subdomain)
    for key in ("kind", "name"):
        value = text(reference, key)
        if not value:
            errors.append(required(f"{path}.{key}"))
        else:
            errors += fields.check(f"{path}.{key}", value, names.path_segment)
    return errors


def _tls(tls: Object, path: str) -> list[FieldError]:
    errors = [e for at, host in each(f"{path}.hosts", tls.get("hosts")) for e in _host(host, at)]
    if secret := text(tls, "secretName"):
        errors += fields.check(f"{path}.secretName", secret, names.dns1123_subdomain)
    return errors


def _status(balancer: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, ingress in each("status.loadBalancer.ingress", balancer.get("ingress")):
        if address := text(ingress, "ip"):
            errors += fields.check(f"{at}.ip", address, names.ip)
        if host := text(ingress, "hostname"):
            errors += fields.check(f"{at}.hostname", host, names.dns1123_subdomain)
            if names.parse_ip(host):
                detail = "must be a DNS name, not an IP address"
                errors.append(invalid_value(f"{at}.hostname", host, detail))
    return errors


def warn(write: Write) -> None:
    annotations = part(write.new, "metadata", "annotations")
    named = part(write.new, "spec").get("ingressClassName") is not None
    if write.old is None and _CLASS_ANNOTATION in annotations and not named:
        says = f"annotation \"{_CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"
        write.warnings.append(says)


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column(
            "Class",
            description="The name of the IngressClass resource that should be used for additional configuration",
        ),
        Column("Hosts", description="Hosts that incoming requests are matched against before the ingress rule"),
        Column("Address", description="Address is a list containing ingress points for the load-balancer"),
        Column("Ports", description="Ports of TLS configurations that open"),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    class_ = spec.get("ingressClassName")
    ingress: list[Object] = entries(part(obj, "status", "loadBalancer"), "ingress")
    addresses = ",".join(sorted({text(i, "ip") or text(i, "hostname") for i in ingress} - {""}))
    ports = "80, 443" if spec.get("tls") else "80"
    return [
        name(obj),
        NONE if class_ is None else class_,
        _hosts(entries(spec, "rules")),
        addresses,
        ports,
        age(obj, now),
    ]


def _hosts(rules: Sequence[Object]) -> str:
    """The first three; the others are counted with the rules that have no host."""
    listed: list[str] = []
    for rule in rules:
        if len(listed) == _SHOWN_HOSTS:
            return f"{','.join(listed)} + {len(rules) - _SHOWN_HOSTS} more..."
        if host := text(rule, "host"):
            listed.append(host)
    return ",".join(listed) or "*"


def resource() -> Resource:
    return Resource(
        group="networking.k8s.io",
        version="v1",
        kind="Ingress",
        plural="ingresses",
        singular="ingress",
        namespaced=True,
        schema="io.k8s.api.networking.v1.Ingress",
        short_names=("ing",),
        status=True,
        strategy=Strategy(default=default, prepare=prepare, validate=validate, warn=warn),
        columns=_columns(),
        row=row,
    )
