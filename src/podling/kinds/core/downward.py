"""What a variable or a file may show of its pod: references to fields and to resources of containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from podling.api.errors import FieldError, invalid_value, not_supported, required
from podling.kinds.core import requirements
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import text
from podling.store.types import Object

ENV_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS: Final = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_SUBSCRIPTED: Final = ("metadata.annotations", "metadata.labels")
_KNOWN_FIELDS: Final = frozenset(
    (*ENV_FIELDS, *VOLUME_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase")
)
_RENAMED: Final = {"spec.host": "spec.nodeName"}


def split_subscript(path: str) -> tuple[str, str] | None:
    """`metadata.labels['app']` as (`metadata.labels`, `app`)."""
    base, opened, subscript = path.removesuffix("']").partition("['")
    return (base, subscript) if path.endswith("']") and opened and base else None


def field_ref(source: Object, path: str, valid: Sequence[str]) -> list[FieldError]:
    """An `ObjectFieldSelector`: which field of the pod a file or variable shows."""
    version, wanted = text(source, "apiVersion"), text(source, "fieldPath")
    for key, value in (("apiVersion", version), ("fieldPath", wanted)):
        if not value:
            return [required(f"{path}.{key}")]
    subscripted = split_subscript(wanted)
    problem = _unknown_field(version, wanted, subscripted)
    if problem:
        return [invalid_value(f"{path}.fieldPath", wanted, f"error converting fieldPath: {problem}")]
    if subscripted is None:
        return fields.one_of(f"{path}.fieldPath", _RENAMED.get(wanted, wanted), valid)
    base, key = subscripted
    return fields.check(path, key.lower() if base == "metadata.annotations" else key, names.qualified_name)


def _unknown_field(version: str, wanted: str, subscripted: tuple[str, str] | None) -> str:
    if version != "v1":
        return f"unsupported pod version: {version}"
    if subscripted is not None:
        known = subscripted[0] in _SUBSCRIPTED
        return "" if known else f"field label does not support subscript: {wanted}"
    known = wanted in _KNOWN_FIELDS or wanted in _RENAMED
    return "" if known else f"field label not supported: {wanted}"


_RESOURCES: Final = tuple(f"{k}.{r}" for k in ("limits", "requests") for r in ("cpu", "ephemeral-storage", "memory"))
_HUGE_PAGES: Final = ("limits.hugepages-", "requests.hugepages-")
_AMOUNTS: Final = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_CORES: Final = ("1m", "1")
_CALLED: Final = {"cpu": "cpu", "memory": "memory", "ephemeral-storage": "local ephemeral storage"}


def resource_ref(source: Object, path: str, *, in_volume: bool) -> list[FieldError]:
    """A `ResourceFieldSelector`: which limit or request a file or variable shows."""
    resource, errors = text(source, "resource"), list[FieldError]()
    if in_volume and not source.get("containerName"):
        errors.append(required(f"{path}.containerName"))
    elif not resource:
        errors.append(required(f"{path}.resource"))
    elif resource not in _RESOURCES and not resource.startswith(_HUGE_PAGES):
        errors.append(not_supported(f"{path}.resource", resource, _RESOURCES))
    return errors + _divisor(resource, requirements.canonical(source.get("divisor") or "0"), f"{path}.divisor")


def _divisor(resource: str, divisor: str, path: str) -> list[FieldError]:
    huge = resource.startswith(_HUGE_PAGES)
    if divisor == "0" or not (huge or resource in _RESOURCES):
        return []
    called = "hugepages" if huge else _CALLED[resource.partition(".")[2]]
    valid = _CORES if called == "cpu" else _AMOUNTS
    if divisor in valid:
        return []
    listed = " and ".join(valid) if called == "cpu" else ", ".join(valid)
    return [invalid_value(path, resource, f"only divisor's values {listed} are supported with the {called} resource")]
