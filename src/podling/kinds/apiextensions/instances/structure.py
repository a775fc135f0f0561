"""What the schema's Kubernetes extensions ask of a custom resource: embedded objects, lists that are sets or maps.

The rules of `apiextensions-apiserver/pkg/apiserver/schema/{objectmeta,listtype}`.
"""

from __future__ import annotations

from typing import Any, Final, cast

import orjson

from podling.api.errors import FieldError, duplicate, invalid_value, required
from podling.kinds.apiextensions.instances.values import item_keys
from podling.kinds.validation import names
from podling.kinds.validation.fields import part
from podling.kinds.validation.meta import metadata
from podling.store.types import Object


def needs_embedded(schema: Object) -> bool:
    return b"x-kubernetes-embedded-resource" in orjson.dumps(schema)


def needs_list_types(schema: Object) -> bool:
    return b"x-kubernetes-list-type" in orjson.dumps(schema)


def embedded(schema: Object, value: Any, path: str = "", *, root: bool = True) -> list[FieldError]:
    """Whether objects embedded in another one have a type and good metadata. With `root` the value is a whole custom
    resource, whose own are checked as those of every object."""
    errors: list[FieldError] = []
    if isinstance(value, dict):
        members = cast(Object, value)
        if schema.get("x-kubernetes-embedded-resource") and not root:
            errors += _embedded(members, path)
        for name, member in members.items():
            inner = _member_schema(schema, name)
            if inner is not None and not (root and name == "metadata"):
                errors += embedded(inner, member, _below(schema, path, name), root=False)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(cast("list[Any]", value)):
            errors += embedded(schema["items"], item, f"{path}[{index}]", root=False)
    return errors


def _below(schema: Object, path: str, name: str) -> str:
    if name not in part(schema, "properties"):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name


def _embedded(obj: Object, path: str) -> list[FieldError]:
    errors = [required(f"{path}.{key}") for key in ("apiVersion", "kind") if key not in obj]
    for key in ("apiVersion", "kind"):
        value: Any = obj.get(key, _UNTOLD)
        if value is _UNTOLD:
            continue
        if not isinstance(value, str):
            wrong = "must be a string"
        elif not value:
            wrong = "must not be empty"
        elif key == "apiVersion":
            wrong = f"unexpected GroupVersion string: {value}" if value.count("/") > 1 else ""
        else:
            said = names.dns1035_label(value.lower())
            wrong = f"may have mixed case, but should otherwise match: {','.join(said)}" if said else ""
        if wrong:
            errors.append(invalid_value(f"{path}.{key}", value, wrong))
    if isinstance(obj.get("metadata"), dict):
        meta = cast(Object, obj["metadata"])
        named: Object = {"metadata": {**meta, "name": meta.get("name") or "fakename"}}
        namespaced = bool(meta.get("namespace"))
        errors += metadata(named, namespaced=namespaced, name=names.segment_name, path=f"{path}.metadata")
    return errors


_UNTOLD: Final = object()


def _member_schema(schema: Object, name: str) -> Object | None:
    found: Any = part(schema, "properties").get(name)
    if found is None:
        found = schema.get("additionalProperties")
    return cast(Object, found) if isinstance(found, dict) else None


def list_types(schema: Object, value: Any, path: str = "") -> list[FieldError]:
    """Whether lists that are sets or maps hold no item twice."""
    errors: list[FieldError] = []
    if isinstance(value, list):
        items = cast("list[Any]", value)
        errors += _repeated(schema, items, path)
        if isinstance(schema.get("items"), dict):
            for index, item in enumerate(items):
                errors += list_types(schema["items"], item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, member in cast(Object, value).items():
            inner = _member_schema(schema, name)
            if inner is not None:
                errors += list_types(inner, member, _below(schema, path, name))
    return errors


def _repeated(schema: Object, items: list[Any], path: str) -> list[FieldError]:
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("set", "map"):
        return []
    for index, item in enumerate(items):
        if kind == "map" and not isinstance(item, dict | None):
            detail = "must be an object for an array of list-type map"
            return [invalid_value(f"{path}[{index}]", item, detail)]
    seen: set[bytes] = set()
    told: set[bytes] = set()
    errors: list[FieldError] = []
    for index, item in enumerate(items):
        shown: Any = item_keys(schema, item) if kind == "map" else item
        key = orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)
        if key in seen and key not in told:
            told.add(key)
            errors.append(duplicate(f"{path}[{index}]", orjson.loads(key)))
        seen.add(key)
    return errors
