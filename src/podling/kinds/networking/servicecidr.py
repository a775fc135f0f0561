"""ServiceCIDR: a range that services get their addresses from."""

from __future__ import annotations

import ipaddress
from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, invalid_value, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import age, age_column, doc, joined, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def default(obj: Object) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {})


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    cidrs: list[str] = entries(part(write.new, "spec"), "cidrs")
    if write.old is not None:
        return errors + fields.immutable("spec.cidrs", cidrs, part(write.old, "spec").get("cidrs"))
    if not cidrs:
        return [*errors, required("spec.cidrs", "at least one CIDR required")]
    if len(cidrs) > 2:
        return [*errors, invalid_value("spec.cidrs", cidrs, "may only hold up to 2 values")]
    for at, cidr in each("spec.cidrs", cidrs):
        errors += _cidr(cidr, at)
    return errors


def _cidr(cidr: str, path: str) -> list[FieldError]:
    wrong = fields.check(path, cidr, names.cidr)
    if wrong:
        return wrong
    canonical = str(ipaddress.ip_network(cidr, strict=False))
    return [] if canonical == cidr else [invalid_value(path, cidr, f'must be in canonical form ("{canonical}")')]


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), joined(part(obj, "spec").get("cidrs")), age(obj, now)]


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
        strategy=Strategy(default=default, prepare=keep_status, validate=validate),
        columns=(name_column(), Column("CIDRs", description=doc("networking.v1.ServiceCIDRSpec.cidrs")), age_column()),
        row=row,
    )
