"""Endpoints: the addresses behind a service, in the form that came before EndpointSlices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.containers import PROTOCOLS
from podling.kinds.core.poddefaults import fill
from podling.kinds.printing import NONE, age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import changed, common, whole
from podling.store.types import Object

_SHOWN: Final = 3
_MANAGED_BY: Final = "endpoints.kubernetes.io/managed-by"


def default(obj: Object) -> None:
    for subset in entries(obj, "subsets"):
        for port in entries(subset, "ports"):
            fill(port, "protocol", "TCP")


def canonicalize(endpoints: Object) -> None:
    """Addresses and ports that stand together are kept in one subset and in order."""
    if subsets := entries(endpoints, "subsets"):
        endpoints["subsets"] = repacked(subsets)


def repacked(subsets: Sequence[Object]) -> list[Object]:
    """Joins subsets with the same ports, joins doubled addresses, and sorts all (`endpoints.RepackSubsets`)."""
    by_ports: dict[tuple[Any, ...], dict[str, list[Object]]] = {}
    ports_of: dict[tuple[Any, ...], list[Object]] = {}
    for subset in subsets:
        ports = sorted(entries(subset, "ports"), key=_port_key)
        key = tuple(_port_key(p) for p in ports)
        ports_of[key] = ports
        groups = by_ports.setdefault(key, {"addresses": [], "notReadyAddresses": []})
        for kind, addresses in groups.items():
            addresses += [a for a in entries(subset, kind) if a not in addresses]
    return [_subset(by_ports[key], ports_of[key]) for key in sorted(by_ports)]


def _subset(groups: dict[str, list[Object]], ports: list[Object]) -> Object:
    subset: Object = {k: sorted(v, key=_address_key) for k, v in groups.items() if v}
    return {**subset, "ports": ports} if ports else subset


def _port_key(port: Object) -> tuple[str, int, str, str]:
    return text(port, "name"), port.get("port") or 0, text(port, "protocol"), text(port, "appProtocol")


def _address_key(address: Object) -> tuple[str, str]:
    return text(address, "ip"), text(part(address, "targetRef"), "uid")


def validate(write: Write) -> list[FieldError]:
    errors = common(write) + changed(write) + whole(write)
    subsets: list[Object] = entries(write.new, "subsets")
    if write.old is not None and subsets == entries(write.old, "subsets"):
        return errors
    return errors + [e for at, subset in each("subsets", subsets) for e in _validate_subset(subset, at)]


def warn(write: Write) -> None:
    """Addresses that are not written as they should be. The controller's own are."""
    if part(write.new, "metadata", "labels").get(_MANAGED_BY) == "endpoint-controller":
        return
    for at, subset in each("subsets", write.new.get("subsets")):
        for kind in ("addresses", "notReadyAddresses"):
            for where, address in each(f"{at}.{kind}", subset.get(kind)):
                write.warnings += names.ip_warnings(f"{where}.ip", text(address, "ip"))


def _validate_subset(subset: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
    for kind in ("addresses", "notReadyAddresses"):
        for at, address in each(f"{path}.{kind}", subset.get(kind)):
            errors += _address(address, at)
    named = len(entries(subset, "ports")) > 1
    for at, port in each(f"{path}.ports", subset.get("ports")):
        errors += _port(port, at, named)
    return errors


def _address(address: Object, path: str) -> list[FieldError]:
    ip = text(address, "ip")
    errors = fields.check(f"{path}.ip", ip, names.ip)
    if host := text(address, "hostname"):
        errors += fields.check(f"{path}.hostname", host, names.dns1123_label)
    if (node := address.get("nodeName")) is not None:
        errors += fields.check(f"{path}.nodeName", node, names.dns1123_subdomain)
    return errors + fields.check(f"{path}.ip", ip, names.special_ip)


def _port(port: Object, path: str, named: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if named and not text(port, "name"):
        errors.append(required(f"{path}.name"))
    elif text(port, "name"):
        errors += fields.check(f"{path}.name", port["name"], names.dns1123_label)
    errors += fields.port(f"{path}.port", port.get("port") or 0)
    errors += fields.one_of_required(f"{path}.protocol", text(port, "protocol"), PROTOCOLS)
    if (protocol := port.get("appProtocol")) is not None:
        errors += fields.check(f"{path}.appProtocol", protocol, names.qualified_name)
    return errors


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), _shown(obj), age(obj, now)]


def _shown(obj: Object) -> str:
    """`10.0.0.1:80,10.0.0.2:80 + 3 more...`"""
    if not obj.get("subsets"):
        return NONE
    listed: list[str] = []
    for subset in entries(obj, "subsets"):
        for port in entries(subset, "ports"):
            listed += [_host_port(a, port) for a in entries(subset, "addresses")]
        if not subset.get("ports"):
            listed += [text(a, "ip") for a in entries(subset, "addresses")]
    more = len(listed) - _SHOWN
    return ",".join(listed[:_SHOWN]) + (f" + {more} more..." if more > 0 else "")


def _host_port(address: Object, port: Object) -> str:
    ip = text(address, "ip")
    return f"[{ip}]:{port['port']}" if ":" in ip else f"{ip}:{port['port']}"


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="Endpoints",
        plural="endpoints",
        singular="endpoints",
        namespaced=True,
        schema="io.k8s.api.core.v1.Endpoints",
        short_names=("ep",),
        deprecation="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
        strategy=Strategy(
            default=default,
            canonicalize=canonicalize,
            validate=validate,
            warn=warn,
            generation=None,
            create_on_update=True,
        ),
        columns=(name_column(), Column("Endpoints", description=doc("core.v1.Endpoints.subsets")), age_column()),
        row=row,
    )
