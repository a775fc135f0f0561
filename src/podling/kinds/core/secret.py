"""Secret: what pods may know and others should not; some types promise certain keys."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any, Final

from podling.api import gojson
from podling.api.errors import FieldError, forbidden_field, invalid_value, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import keypairs
from podling.kinds.core.poddefaults import fill
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import entries, part, text
from podling.kinds.validation.meta import changed, common, whole
from podling.store.types import Object

_MAX_SIZE: Final = 1024 * 1024
_TOKEN: Final = "kubernetes.io/service-account-token"
_TOKEN_ACCOUNT: Final = "kubernetes.io/service-account.name"
_REDACTED: Final = "<secret contents redacted>"
_KEYS: Final = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
"""The keys that a type demands."""


def default(obj: Object) -> None:
    """`stringData` is a way of writing `data`, and never shown."""
    fill(obj, "type", "Opaque")
    plain: dict[str, str] = obj.pop("stringData", None) or {}
    if plain:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        obj["data"] = {**part(obj, "data"), **encoded}


def validate(write: Write) -> list[FieldError]:
    errors = common(write) + changed(write)
    if write.old is not None:
        errors += _update(write.new, write.old)
    return errors + whole(write) + _data(write.new)


def _update(new: Object, old: Object) -> list[FieldError]:
    errors = fields.immutable("type", text(new, "type"), text(old, "type"))
    if not old.get("immutable"):
        return errors
    detail = "field is immutable when `immutable` is set"
    if not new.get("immutable"):
        errors.append(forbidden_field("immutable", detail))
    if part(new, "data") != part(old, "data"):
        errors.append(forbidden_field("data", detail))
    return errors


def _data(obj: Object) -> list[FieldError]:
    data: dict[str, str] = part(obj, "data")
    errors: list[FieldError] = []
    size = 0
    for key, value in data.items():
        errors += fields.check(f"data[{key}]", key, names.config_map_key)
        size += len(value) * 3 // 4 - value.count("=")
    if size > _MAX_SIZE:
        errors.append(FieldError("FieldValueTooLong", "data", f"Too long: may not be more than {_MAX_SIZE} bytes"))
    return errors + _typed(obj, data)


def _typed(obj: Object, data: dict[str, str]) -> list[FieldError]:
    kind = text(obj, "type")
    errors = [required(f"data[{key}]") for key in _KEYS.get(kind, ()) if key not in data]
    if kind == _TOKEN and not part(obj, "metadata", "annotations").get(_TOKEN_ACCOUNT):
        errors.append(required(f"metadata.annotations[{_TOKEN_ACCOUNT}]"))
    if kind == "kubernetes.io/basic-auth" and not ({"username", "password"} & data.keys()):
        errors += [required(f"data[{key}]") for key in ("username", "password")]
    if kind.startswith("kubernetes.io/dockerc") and not errors:
        key = _KEYS[kind][0]
        errors += _is_json(f"data[{key}]", data[key])
    return errors


def _is_json(path: str, encoded: str) -> list[FieldError]:
    try:
        parsed: object = gojson.loads(base64.b64decode(encoded))
    except gojson.JsonError as error:
        return [invalid_value(path, _REDACTED, str(error))]
    if parsed is None or isinstance(parsed, dict):
        return []
    detail = f"json: cannot unmarshal {_json_type(parsed)} into Go value of type map[string]interface {{}}"
    return [invalid_value(path, _REDACTED, detail)]


def _json_type(value: object) -> str:
    match value:
        case list():
            return "array"
        case str():
            return "string"
        case bool():
            return "bool"
        case _:
            return "number"


def warn(write: Write) -> None:
    """A TLS secret whose contents are no pair of certificate and key is stored all the same."""
    data = part(write.new, "data")
    if text(write.new, "type") != "kubernetes.io/tls" or (write.old is not None and part(write.old, "data") == data):
        return
    certificate, key = (base64.b64decode(text(data, name)) for name in _KEYS["kubernetes.io/tls"])
    if wrong := keypairs.problem(certificate, key):
        write.warnings.append(wrong)


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Type", description=doc("core.v1.Secret.type")),
        Column("Data", description=doc("core.v1.Secret.data")),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), text(obj, "type"), len(entries(obj, "data")), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="Secret",
        plural="secrets",
        singular="secret",
        namespaced=True,
        schema="io.k8s.api.core.v1.Secret",
        strategy=Strategy(default=default, validate=validate, warn=warn, generation=None),
        columns=_columns(),
        row=row,
        selectable={"type": lambda obj: text(obj, "type")},
    )
