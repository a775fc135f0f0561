"""CSIDriver: what Kubernetes should know of a storage driver."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, duplicate, invalid_value
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.workload import fill
from podling.kinds.printing import UNSET, age, age_column, doc, name, name_column
from podling.kinds.validation import fields
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_MODES: Final = ("Persistent", "Ephemeral")
_LEAST_TOKEN_LIFE: Final = 600
_LONGEST_TOKEN_LIFE: Final = 2**32
_LEAST_PERIOD: Final = 10
_FS_GROUP: Final = ("File", "None", "ReadWriteOnceWithFSType")


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    fill(
        spec,
        attachRequired=True,
        podInfoOnMount=False,
        storageCapacity=False,
        fsGroupPolicy="ReadWriteOnceWithFSType",
        requiresRepublish=False,
        seLinuxMount=False,
    )
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    spec = part(write.new, "spec")
    if (policy := spec.get("fsGroupPolicy")) is not None:
        errors += fields.one_of("spec.fsGroupPolicy", policy, _FS_GROUP)
    errors += _token_requests(entries(spec, "tokenRequests"))
    for mode in entries(spec, "volumeLifecycleModes"):
        errors += fields.one_of("spec.volumeLifecycleModes", mode, _MODES)
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < _LEAST_PERIOD:
        detail = f"must be greater than or equal to {_LEAST_PERIOD} seconds"
        errors.append(invalid_value("spec.nodeAllocatableUpdatePeriodSeconds", period, detail))
    if write.old is not None:
        before = part(write.old, "spec")
        for key in ("attachRequired", "volumeLifecycleModes"):
            path = f"spec.{'attachedRequired' if key == 'attachRequired' else key}"
            errors += fields.immutable(path, spec.get(key), before.get(key))
    return errors


def _token_requests(requests: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, token in each("spec.tokenRequests", requests):
        audience, seconds = text(token, "audience"), token.get("expirationSeconds")
        if audience in seen:
            errors.append(duplicate(f"{at}.audience", audience))
            continue
        seen.add(audience)
        if seconds is not None and seconds < _LEAST_TOKEN_LIFE:
            detail = "may not specify a duration less than 10 minutes"
            errors.append(invalid_value(f"{at}.expirationSeconds", seconds, detail))
        if seconds is not None and seconds > _LONGEST_TOKEN_LIFE:
            detail = "may not specify a duration larger than 2^32 seconds"
            errors.append(invalid_value(f"{at}.expirationSeconds", seconds, detail))
    return errors


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("AttachRequired", "boolean", description=doc("storage.v1.CSIDriverSpec.attachRequired")),
        Column("PodInfoOnMount", "boolean", description=doc("storage.v1.CSIDriverSpec.podInfoOnMount")),
        Column("StorageCapacity", "boolean", description=doc("storage.v1.CSIDriverSpec.storageCapacity")),
        Column("TokenRequests", description=doc("storage.v1.CSIDriverSpec.tokenRequests")),
        Column("RequiresRepublish", "boolean", description=doc("storage.v1.CSIDriverSpec.requiresRepublish")),
        Column("Modes", description=doc("storage.v1.CSIDriverSpec.volumeLifecycleModes")),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    requests: list[Object] = entries(spec, "tokenRequests")
    tokens = ",".join(text(t, "audience") for t in requests) if requests else UNSET
    return [
        name(obj),
        spec.get("attachRequired", True),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        tokens,
        bool(spec.get("requiresRepublish")),
        ",".join(entries(spec, "volumeLifecycleModes")) or "<none>",
        age(obj, now),
    ]


def resource() -> Resource:
    return Resource(
        group="storage.k8s.io",
        version="v1",
        kind="CSIDriver",
        plural="csidrivers",
        singular="csidriver",
        namespaced=False,
        schema="io.k8s.api.storage.v1.CSIDriver",
        strategy=Strategy(unconditional_update=False, default=default, validate=validate, returns_deleted=True),
        columns=_columns(),
        row=row,
    )
