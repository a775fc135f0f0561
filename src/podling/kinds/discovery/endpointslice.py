"""EndpointSlice: a part of the addresses behind a service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, duplicate, invalid_value, required, too_many
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.containers import PROTOCOLS
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import common, whole
from podling.store.types import Object

_ADDRESS_TYPES: Final = ("FQDN", "IPv4", "IPv6")
_MAX_ENDPOINTS: Final = 1000
_MAX_PORTS: Final = 20000
_MAX_ADDRESSES: Final = 100
_MAX_HINTS: Final = 8
_MAX_TOPOLOGY: Final = 16
_SHOWN: Final = 3
_HOSTNAME: Final = "kubernetes.io/hostname"
_HINTED: Final = (("forZones", names.label_value), ("forNodes", names.dns1123_subdomain))


def default(obj: Object) -> None:
    for port in entries(obj, "ports"):
        if port.get("name") is None:
            port["name"] = ""
        if port.get("protocol") is None:
            port["protocol"] = "TCP"


def prepare(write: Write) -> None:
    """A slice without endpoints shows `null`: Kubernetes' storage does not tell an empty list from none."""
    for key in ("endpoints", "ports"):
        write.new[key] = write.new.get(key) or None
    before = (write.old or {}).get("endpoints")
    if write.old is None or fields.comparable(before) != fields.comparable(write.new["endpoints"]):
        _drop_topology(entries(write.new, "endpoints"), before or [])


def _drop_topology(endpoints: list[Object], before: list[Object]) -> None:
    """v1 does not write `deprecatedTopology`; a node that the stored object named there becomes `nodeName`."""
    known = {part(endpoint, "deprecatedTopology").get(_HOSTNAME) for endpoint in before}
    for endpoint in endpoints:
        node = text(part(endpoint, "deprecatedTopology"), _HOSTNAME)
        endpoint.pop("deprecatedTopology", None)
        if node and node in known and endpoint.get("nodeName") is None and not names.dns1123_subdomain(node):
            endpoint["nodeName"] = node


def validate(write: Write) -> list[FieldError]:
    errors = common(write) + whole(write)
    kind = text(write.new, "addressType")
    errors += fields.one_of_required("addressType", kind, _ADDRESS_TYPES)
    errors += _endpoints(write.new.get("endpoints"), kind)
    errors += _ports(write.new.get("ports"))
    if write.old is not None:
        errors += fields.immutable("addressType", kind, text(write.old, "addressType"))
    return errors


def _endpoints(endpoints: Sequence[Object] | None, kind: str) -> list[FieldError]:
    if len(endpoints or ()) > _MAX_ENDPOINTS:
        return [too_many("endpoints", len(endpoints or ()), _MAX_ENDPOINTS)]
    errors: list[FieldError] = []
    for at, endpoint in each("endpoints", endpoints):
        addresses: list[str] = entries(endpoint, "addresses")
        if not addresses:
            errors.append(required(f"{at}.addresses", "must contain at least 1 address"))
        elif len(addresses) > _MAX_ADDRESSES:
            errors.append(too_many(f"{at}.addresses", len(addresses), _MAX_ADDRESSES))
        for address_at, address in each(f"{at}.addresses", addresses):
            errors += _address(address, kind, f"{at}.addresses", address_at)
        if (node := endpoint.get("nodeName")) is not None:
            errors += fields.check(f"{at}.nodeName", node, names.dns1123_subdomain)
        topology: Object = part(endpoint, "deprecatedTopology")
        if len(topology) > _MAX_TOPOLOGY:
            errors.append(too_many(f"{at}.deprecatedTopology", len(topology), _MAX_TOPOLOGY))
        errors += fields.labels(f"{at}.deprecatedTopology", topology)
        if (host := endpoint.get("hostname")) is not None:
            errors += fields.check(f"{at}.hostname", host, names.dns1123_label)
        errors += _hints(part(endpoint, "hints"), f"{at}.hints")
    return errors


def _address(address: str, kind: str, path: str, at: str) -> list[FieldError]:
    """An address `at` its place in the list at `path`. What is of no known kind is not looked at."""
    if kind == "FQDN":
        return _domain(address, at)
    if kind not in _ADDRESS_TYPES:
        return []
    wrong = names.ip(address)
    if wrong:
        return fields.says(at, address, wrong)
    family = "IPv6" if ":" in address else "IPv4"
    errors = [] if family == kind else [invalid_value(path, address, f"must be an {kind} address")]
    return errors + fields.says(at, address, names.special_ip(address))


def _domain(name: str, path: str) -> list[FieldError]:
    if not name:
        return [required(path)]
    name = name.removesuffix(".")
    if wrong := names.dns1123_subdomain(name):
        return [invalid_value(path, name, ",".join(wrong))]
    labels = name.split(".")
    if len(labels) < 2:
        return [invalid_value(path, name, "should be a domain with at least two segments separated by dots")]
    long = next((label for label in labels if names.dns1123_label(label)), None)
    return [] if long is None else [invalid_value(path, long, ",".join(names.dns1123_label(long)))]


def _hints(hints: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key, rule in _HINTED:
        items: list[Object] = entries(hints, key)
        if len(items) > _MAX_HINTS:
            return [*errors, too_many(f"{path}.{key}", len(items), _MAX_HINTS)]
        seen: set[str] = set()
        for at, item in each(f"{path}.{key}", items):
            held = text(item, "name")
            if held in seen:
                errors.append(duplicate(f"{at}.name", held))
            seen.add(held)
            errors += fields.check(f"{at}.name", held, rule)
    return errors


def _ports(ports: Sequence[Object] | None) -> list[FieldError]:
    if len(ports or ()) > _MAX_PORTS:
        return [too_many("ports", len(ports or ()), _MAX_PORTS)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, port in each("ports", ports):
        held = port.get("name") or ""
        if held:
            errors += fields.check(f"{at}.name", held, names.dns1123_label)
        if held in seen:
            errors.append(duplicate(f"{at}.name", held))
        seen.add(held)
        errors += fields.one_of(f"{at}.protocol", port.get("protocol"), PROTOCOLS)
        if (protocol := port.get("appProtocol")) is not None:
            errors += fields.check(f"{at}.appProtocol", protocol, names.qualified_name)
    return errors


def _generation(old: Object, new: Object) -> bool:
    """Everything but metadata counts, and labels too: consumers act on them."""
    keys = ("addressType", "endpoints", "ports")
    if any((old.get(k) or None) != (new.get(k) or None) for k in keys):
        return True
    return part(old, "metadata").get("labels") != part(new, "metadata").get("labels")


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("AddressType", description=doc("discovery.v1.EndpointSlice.addressType")),
        Column("Ports", description=doc("discovery.v1.EndpointSlice.ports")),
        Column("Endpoints", description=doc("discovery.v1.EndpointSlice.endpoints")),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    addresses = [a for e in entries(obj, "endpoints") for a in entries(e, "addresses")]
    return [name(obj), text(obj, "addressType"), _ports_shown(obj), _limited(addresses, "<unset>"), age(obj, now)]


def _ports_shown(obj: Object) -> str:
    ports: list[Object] = entries(obj, "ports")
    shown = [str(p["port"]) if p.get("port") is not None else p.get("name", "*") for p in ports]
    return _limited(shown, "<unset>")


def _limited(items: list[str], empty: str) -> str:
    if len(items) <= _SHOWN:
        return ",".join(items) or empty
    return f"{','.join(items[:_SHOWN])} + {len(items) - _SHOWN} more..."


def resource() -> Resource:
    return Resource(
        group="discovery.k8s.io",
        version="v1",
        kind="EndpointSlice",
        plural="endpointslices",
        singular="endpointslice",
        namespaced=True,
        schema="io.k8s.api.discovery.v1.EndpointSlice",
        strategy=Strategy(default=default, prepare=prepare, validate=validate, generation=_generation),
        columns=_columns(),
        row=row,
    )
