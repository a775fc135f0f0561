"""ResourceClaim: devices that a pod asks for."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, required, too_long, too_many
from podling.api.resources import STATUS_ALONE, Column, Resource, Strategy, Write
from podling.kinds.core import scheduling
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import age, age_column, name, name_column
from podling.kinds.resource import devices
from podling.kinds.validation import fields, names
from podling.kinds.validation.conditions import conditions
from podling.kinds.validation.fields import entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_MAX_CONSUMERS: Final = 256
_MAX_RESULTS: Final = 32
_MAX_CONDITIONS: Final = 8
_MAX_IPS: Final = 16
_SOURCES: Final = ("FromClaim", "FromClass")
_LONGEST: Final = {"interfaceName": 256, "hardwareAddress": 128}
_DEVICE: Final = ("driver", "pool", "device", "shareID")


def default(obj: Object) -> None:
    devices.default(obj.setdefault("spec", {}))
    obj.setdefault("status", {})


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    spec = part(write.new, "spec")
    if write.old is None:
        namespace = write.reader.get("namespaces", "", text(part(write.new, "metadata"), "namespace"))
        return devices.admin_access(spec, namespace, "spec") + errors + devices.claim_spec(spec, "spec")
    if write.subresource == "status":
        return errors + _validate_status(write.new, write.old)
    errors += fields.immutable("spec", spec, part(write.old, "spec"))
    return errors + devices.claim_spec(spec, "spec")


def _validate_status(claim: Object, old: Object) -> list[FieldError]:
    status, before = part(claim, "status"), part(old, "status")
    allocation: Object | None = status.get("allocation")
    known = devices.request_names(part(claim, "spec"))
    allocated = [_identity(result) for result in entries(part(allocation or {}, "devices"), "results")]
    errors = devices.unique(
        status.get("reservedFor"), _MAX_CONSUMERS, _consumer, "status.reservedFor", lambda one: text(one, "uid")
    )
    errors += devices.unique(
        status.get("devices"), -1, lambda one, at: _device(one, at, allocated), "status.devices", _identity
    )
    errors += _reserved(claim, entries(status, "reservedFor"), entries(before, "reservedFor"))
    if allocation is None:
        return errors
    if before.get("allocation") is not None:
        return errors + fields.immutable("status.allocation", allocation, before["allocation"])
    return errors + _allocation(allocation, "status.allocation", known)


def _identity(device: Object) -> str:
    """A device of the cluster: `driver/pool/device`, with the share where it is shared."""
    return "/".join(text(device, key) for key in _DEVICE if key != "shareID" or device.get(key))


def _consumer(consumer: Object, path: str) -> list[FieldError]:
    return [required(f"{path}.{key}") for key in ("resource", "name", "uid") if not text(consumer, key)]


def _reserved(claim: Object, now: list[Object], before: list[Object]) -> list[FieldError]:
    path = "status.reservedFor"
    if not now:
        return []
    if part(claim, "status").get("allocation") is None:
        return [forbidden_field(path, "may not be specified when `allocated` is not set")]
    if part(claim, "metadata").get("deletionTimestamp") and any(one not in before for one in now):
        detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        return [forbidden_field(path, detail)]
    return []


def _device(device: Object, path: str, allocated: list[str]) -> list[FieldError]:
    errors = devices.driver_name(text(device, "driver"), f"{path}.driver")
    errors += devices.pool_name(text(device, "pool"), f"{path}.pool")
    errors += devices.label(text(device, "device"), f"{path}.device")
    if _identity(device) not in allocated:
        errors.append(invalid_value(path, _identity(device), "must be an allocated device in the claim"))
    given = entries(device, "conditions")
    if len(given) > _MAX_CONDITIONS:
        errors.append(too_many(f"{path}.conditions", len(given), _MAX_CONDITIONS))
    errors += conditions(f"{path}.conditions", given)
    if device.get("data") is not None:
        errors += devices.parameters(device["data"], f"{path}.data")
    return errors + _network(part(device, "networkData"), f"{path}.networkData")


def _network(data: Object, path: str) -> list[FieldError]:
    errors = [
        too_long(f"{path}.{key}", limit) for key, limit in _LONGEST.items() if len(text(data, key).encode()) > limit
    ]
    return errors + devices.unique(
        data.get("ips"), _MAX_IPS, lambda value, at: fields.check(at, value, names.interface_address), f"{path}.ips"
    )


def _allocation(allocation: Object, path: str, known: frozenset[str]) -> list[FieldError]:
    found, at = part(allocation, "devices"), f"{path}.devices"
    errors = devices.items(found.get("results"), _MAX_RESULTS, lambda r, p: _result(r, p, known), f"{at}.results")
    errors += devices.items(
        found.get("config"), 2 * devices.MAX_CONFIGS, lambda c, p: _configuration(c, p, known), f"{at}.config"
    )
    if (selector := allocation.get("nodeSelector")) is not None:
        errors += scheduling.node_selector(selector, f"{path}.nodeSelector")
    return errors


def _result(result: Object, path: str, known: frozenset[str]) -> list[FieldError]:
    errors = devices.reference(text(result, "request"), f"{path}.request", known)
    errors += devices.driver_name(text(result, "driver"), f"{path}.driver")
    errors += devices.pool_name(text(result, "pool"), f"{path}.pool")
    errors += devices.label(text(result, "device"), f"{path}.device")
    return errors + devices.binding_conditions(result, path)


def _configuration(config: Object, path: str, known: frozenset[str]) -> list[FieldError]:
    errors = fields.one_of_required(f"{path}.source", text(config, "source"), _SOURCES)
    return errors + devices.claim_configuration(config, path, known)


def _columns() -> tuple[Column, ...]:
    state = "A summary of the current state (allocated, pending, reserved, etc.)."
    return (name_column(), Column("State", description=state), age_column())


def row(obj: Object, now: datetime) -> list[Any]:
    status = part(obj, "status")
    deleted = bool(part(obj, "metadata").get("deletionTimestamp"))
    words = ["deleted"] if deleted else []
    if status.get("allocation") is None:
        words += [] if deleted else ["pending"]
    else:
        words.append("allocated")
        if status.get("reservedFor"):
            words.append("reserved")
    return [name(obj), ",".join(words), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="resource.k8s.io",
        version="v1",
        kind="ResourceClaim",
        plural="resourceclaims",
        singular="resourceclaim",
        namespaced=True,
        schema="io.k8s.api.resource.v1.ResourceClaim",
        status=True,
        strategy=Strategy(
            default=default, prepare=keep_status, validate=validate, generation=None, resets=STATUS_ALONE
        ),
        columns=_columns(),
        row=row,
    )
