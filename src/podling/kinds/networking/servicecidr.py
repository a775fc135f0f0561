"""ServiceCIDR: a range that services get their addresses from."""

from __future__ import annotations

import ipaddress
from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, invalid_value, required
from podling.api.resources import STATUS_ALONE, Column, Resource, Strategy, Write
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.validation import fields, meta, names
from podling.kinds.validation.fields import each, entries, part
from podling.store.types import Object


def default(obj: Object) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {})


def validate(write: Write) -> list[FieldError]:
    if write.subresource == "status":
        return meta.object_meta(write)
    cidrs: list[str] = entries(part(write.new, "spec"), "cidrs")
    errors = meta.common(write) + meta.whole(write) + _cidrs(cidrs, "spec.cidrs")
    if write.old is not None:
        errors += meta.changed(write)
        errors += fields.immutable("spec.cidrs", cidrs, part(write.old, "spec").get("cidrs"))
    return errors


def _cidrs(cidrs: list[str], path: str) -> list[FieldError]:
    if not cidrs:
        return [required(path, "at least one CIDR required")]
    if len(cidrs) > 2:
        return [invalid_value(path, {"CIDRs": cidrs}, "may only hold up to 2 values")]
    if len(cidrs) == 2 and (any(map(names.cidr, cidrs)) or (":" in cidrs[0]) == (":" in cidrs[1])):
        detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        return [invalid_value(path, {"CIDRs": cidrs}, detail)]
    return [error for at, cidr in each(path, cidrs) for error in _cidr(cidr, at)]


def _cidr(cidr: str, path: str) -> list[FieldError]:
    wrong = fields.check(path, cidr, names.cidr)
    if wrong:
        return wrong
    canonical = str(ipaddress.ip_network(cidr, strict=False))
    return [] if canonical == cidr else [invalid_value(path, cidr, f'must be in canonical form ("{canonical}")')]


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), ",".join(entries(part(obj, "spec"), "cidrs")), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="networking.k8s.io",
        version="v1",
        kind="ServiceCIDR",
        plural="servicecidrs",
        singular="servicecidr",
        namespaced=False,
        schema="io.k8s.api.networking.v1.ServiceCIDR",
        status=True,
        strategy=Strategy(default=default, prepare=keep_status, validate=validate, resets=STATUS_ALONE),
        columns=(name_column(), Column("CIDRs", description=doc("networking.v1.ServiceCIDRSpec.cidrs")), age_column()),
        row=row,
    )
