"""IPAddress: an address of the service range, and the object that it was given to."""

from __future__ import annotations

import ipaddress
from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.printing import NONE, age, doc, name, name_column
from podling.kinds.validation import fields, meta, names
from podling.kinds.validation.fields import part, text
from podling.store.types import Object


def _canonical(value: str, prefix: bool) -> list[str]:
    """The name is the address in its canonical form."""
    if prefix:
        return []
    if names.ip(value):
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    shown = str(ipaddress.ip_address(value))
    return [] if shown == value else [f"must be in canonical form ({shown!r})".replace("'", '"')]


def validate(write: Write) -> list[FieldError]:
    parent: Object | None = part(write.new, "spec").get("parentRef")
    errors = meta.common(write) + meta.whole(write, _canonical) + _parent(parent, "spec.parentRef")
    if write.old is not None:
        errors += meta.changed(write)
        errors += fields.immutable("spec.parentRef", parent, part(write.old, "spec").get("parentRef"))
    return errors


def _parent(parent: Object | None, path: str) -> list[FieldError]:
    if parent is None:
        return [required(path)]
    errors: list[FieldError] = []
    if group := text(parent, "group"):
        errors += fields.check(f"{path}.group", group, names.dns1123_subdomain)
    for key in ("resource", "name"):
        errors += fields.check_required(f"{path}.{key}", text(parent, key), names.path_segment)
    return errors + fields.check(f"{path}.namespace", text(parent, "namespace"), names.path_segment)


def row(obj: Object, now: datetime) -> list[Any]:
    """One cell more than there are columns: Kubernetes sends an age that nobody sees."""
    if part(obj, "spec").get("parentRef") is None:
        return [name(obj), NONE, age(obj, now)]
    parent = part(obj, "spec", "parentRef")
    kind = ".".join(filter(None, (text(parent, "resource"), text(parent, "group"))))
    shown = "/".join(filter(None, (kind, text(parent, "namespace"), text(parent, "name"))))
    return [name(obj), shown, age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="networking.k8s.io",
        version="v1",
        kind="IPAddress",
        plural="ipaddresses",
        singular="ipaddress",
        namespaced=False,
        schema="io.k8s.api.networking.v1.IPAddress",
        short_names=("ip",),
        strategy=Strategy(validate=validate),
        columns=(
            name_column(),
            Column("ParentRef", description=doc("networking.v1.IPAddressSpec.parentRef")),
        ),
        row=row,
    )
