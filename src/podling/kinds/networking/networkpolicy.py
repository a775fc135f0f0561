"""NetworkPolicy: who may talk to whom."""

from __future__ import annotations

import ipaddress
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds import printing
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.validation import fields, meta, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_TYPES: Final = ("Ingress", "Egress")
_DIRECTIONS: Final = (("ingress", "from"), ("egress", "to"))


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    for direction, _ in _DIRECTIONS:
        for rule in entries(spec, direction):
            for port in entries(rule, "ports"):
                if port.get("protocol") is None:
                    port["protocol"] = "TCP"
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def validate(write: Write) -> list[FieldError]:
    return meta.object_meta(write) + _spec(part(write.new, "spec"))


def _spec(spec: Object) -> list[FieldError]:
    errors = fields.label_selector("spec.podSelector", spec.get("podSelector"))
    for direction, peers in _DIRECTIONS:
        for at, rule in each(f"spec.{direction}", spec.get(direction)):
            errors += [e for port_at, port in each(f"{at}.ports", rule.get("ports")) for e in _port(port, port_at)]
            errors += [e for peer_at, peer in each(f"{at}.{peers}", rule.get(peers)) for e in _peer(peer, peer_at)]
    types: list[str] = entries(spec, "policyTypes")
    if len(types) > len(_TYPES):
        errors.append(invalid_value("spec.policyTypes", types, "may not specify more than two policyTypes"))
        return errors
    return errors + [e for at, kind in each("spec.policyTypes", types) for e in fields.one_of(at, kind, _TYPES)]


def _port(port: Object, path: str) -> list[FieldError]:
    protocol, number, end = port.get("protocol"), port.get("port"), port.get("endPort")
    errors: list[FieldError] = []
    if protocol is not None:
        errors += fields.one_of(f"{path}.protocol", protocol, _PROTOCOLS)
    if number is None:
        if end is not None:
            detail = "may not be specified when `port` is not specified"
            errors.append(invalid_value(f"{path}.endPort", end, detail))
    elif isinstance(number, str):
        if end is not None:
            errors.append(invalid_value(f"{path}.endPort", end, "may not be specified when `port` is non-numeric"))
        errors += fields.port_or_name(f"{path}.port", number)
    else:
        errors += fields.port(f"{path}.port", number)
        if end is not None and end < number:
            errors.append(invalid_value(f"{path}.endPort", number, "must be greater than or equal to `port`"))
        if end is not None:
            errors += fields.port(f"{path}.endPort", end)
    return errors


def _peer(peer: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    given = 0
    for key in ("podSelector", "namespaceSelector"):
        if peer.get(key) is not None:
            given += 1
            errors += fields.label_selector(f"{path}.{key}", peer[key])
    block: Object | None = peer.get("ipBlock")
    if block is not None:
        errors += _block(block, f"{path}.ipBlock")
    if block is not None and given:
        errors.append(forbidden_field(path, "may not specify both ipBlock and another peer"))
    elif block is None and not given:
        errors.append(required(path, "must specify a peer"))
    return errors


def _block(block: Object, path: str) -> list[FieldError]:
    cidr = text(block, "cidr")
    if not cidr:
        return [required(f"{path}.cidr")]
    errors = fields.check(f"{path}.cidr", cidr, names.cidr)
    if errors:
        return errors
    outer = ipaddress.ip_network(cidr, strict=False)
    for at, value in each(f"{path}.except", block.get("except")):
        wrong = fields.check(at, value, names.cidr)
        errors += wrong
        if wrong:
            continue
        inner = ipaddress.ip_network(value, strict=False)
        inside = inner.version == outer.version and inner.network_address in outer
        if not inside or inner.prefixlen <= outer.prefixlen:
            errors.append(invalid_value(at, value, "must be a strict subset of `cidr`"))
    return errors


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Pod-Selector", description=doc("networking.v1.NetworkPolicySpec.podSelector")),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), printing.selector(part(obj, "spec", "podSelector")), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="networking.k8s.io",
        version="v1",
        kind="NetworkPolicy",
        plural="networkpolicies",
        singular="networkpolicy",
        namespaced=True,
        schema="io.k8s.api.networking.v1.NetworkPolicy",
        short_names=("netpol",),
        strategy=Strategy(default=default, validate=validate),
        columns=_columns(),
        row=row,
    )
