"""Whether the schema of a custom resource is structural: every value's type is told where the value is.

The rules are those of `apiextensions-apiserver/pkg/apiserver/schema/validation.go` and of the older ones in
`pkg/apis/apiextensions/validation`. CEL rules have a module of their own.
"""

from __future__ import annotations

import re
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED: Final = (
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "readOnly",
    "writeOnly",
    "xml",
    "$ref",
)
_LIST_TYPES: Final = ("atomic", "map", "set")
_MAP_TYPES: Final = ("atomic", "granular")
_ANY: Final = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_EMBEDDED: Final = "x-kubernetes-embedded-resource"
_LIST_TYPE: Final = "x-kubernetes-list-type"
_LIST_KEYS: Final = "x-kubernetes-list-map-keys"


def schema(root: Object, path: str) -> list[FieldError]:
    """The problems of `openAPIV3Schema`."""
    errors = _node(root, path, "at the root", depth=0)
    if text(root, "type") not in ("", "object"):
        errors.append(invalid_value(f"{path}.type", root["type"], "must be object at the root"))
    if root.get("additionalProperties") is not None:
        errors.append(forbidden_field(f"{path}.additionalProperties", "must not be used at the root"))
    metadata = part(root, "properties").get("metadata")
    if metadata is not None:
        errors += _metadata(metadata, f"{path}.properties[metadata]")
    return errors


def _metadata(node: Object, path: str) -> list[FieldError]:
    if text(node, "type") not in ("", "object"):
        return [invalid_value(f"{path}.type", node["type"], "must be object")]
    others = node.keys() - {"type", "properties", "description"}
    if others or part(node, "properties").keys() - {"name", "generateName"}:
        detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        return [forbidden_field(path, detail)]
    return []


def _node(node: Object, path: str, where: str, depth: int) -> list[FieldError]:
    errors = [forbidden_field(f"{path}.{key}", f"{key} is not supported") for key in _UNSUPPORTED if node.get(key)]
    if node.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.append(forbidden_field(f"{path}.uniqueItems", detail))
    errors += _properties(node, path, depth)
    errors += _items(node, path, depth)
    errors += _type(node, path, where)
    errors += _pattern(node, path)
    errors += _list_type(node, path)
    errors += _extensions(node, path)
    if "default" in node and depth:
        errors += _default(node["default"], node, f"{path}.default")
    return errors


def _type(node: Object, path: str, where: str) -> list[FieldError]:
    kind = text(node, "type")
    if kind:
        return [] if kind in _TYPES else [not_supported(f"{path}.type", kind, _TYPES)]
    if untyped(node) and where != "at the root":
        return []
    return [required(f"{path}.type", f"must not be empty {where}")]


def untyped(node: Object) -> bool:
    """Whether a value may be of any type."""
    return bool(node.get(_ANY) or node.get(_INT_OR_STRING))


def _properties(node: Object, path: str, depth: int) -> list[FieldError]:
    errors: list[FieldError] = []
    properties, others = part(node, "properties"), node.get("additionalProperties")
    if properties and others is not None and others is not True and depth:
        detail = "additionalProperties and properties are mutual exclusive"
        errors.append(forbidden_field(f"{path}.additionalProperties", detail))
    for name, child in properties.items():
        if depth == 0 and name == "metadata":
            continue
        errors += _node(child, f"{path}.properties[{name}]", "for specified object fields", depth + 1)
    if isinstance(others, dict):
        where = "for specified object fields"
        errors += _node(part(node, "additionalProperties"), f"{path}.additionalProperties", where, depth + 1)
    return errors


def _items(node: Object, path: str, depth: int) -> list[FieldError]:
    items: Any = node.get("items")
    if items is None:
        return [required(f"{path}.items", "must be specified")] if text(node, "type") == "array" else []
    if isinstance(items, list):
        return [forbidden_field(f"{path}.items", "items must be a schema object and not an array")]
    return _node(part(node, "items"), f"{path}.items", "for specified array items", depth + 1)


def _pattern(node: Object, path: str) -> list[FieldError]:
    pattern = text(node, "pattern")
    try:
        re.compile(pattern)
    except re.error as error:
        detail = f"must be a valid regular expression, but isn't: error parsing regexp: {_go_words(error, pattern)}"
        return [invalid_value(f"{path}.pattern", pattern, detail)]
    return []


def _go_words(error: re.error, pattern: str) -> str:
    """Go's words for what Python says of a regular expression; the commonest mistakes."""
    known = {
        "missing ), unterminated subpattern": "missing closing )",
        "unbalanced parenthesis": "unexpected )",
        "unterminated character set": "missing closing ]",
        "nothing to repeat": "missing argument to repetition operator",
    }
    shown = pattern
    if error.msg == "unterminated character set" and error.pos is not None:
        shown = pattern[error.pos :]
    elif error.msg == "nothing to repeat" and error.pos is not None:
        shown = pattern[error.pos]
    return f"{known.get(error.msg, error.msg)}: `{shown}`"


def _list_type(node: Object, path: str) -> list[FieldError]:
    kind, keys = node.get(_LIST_TYPE), entries(node, _LIST_KEYS)
    errors: list[FieldError] = []
    if kind is not None:
        if text(node, "type") != "array":
            detail = f"must be array if {_LIST_TYPE} is specified"
            errors.append(invalid_value(f"{path}.type", text(node, "type"), detail))
        if kind not in _LIST_TYPES:
            errors.append(not_supported(f"{path}.{_LIST_TYPE}", kind, _LIST_TYPES))
    if kind == "map" and not keys:
        errors.append(required(f"{path}.{_LIST_KEYS}", f"must not be empty if {_LIST_TYPE} is map"))
    if keys and kind != "map":
        errors.append(invalid_value(f"{path}.{_LIST_TYPE}", kind, f"must be map if {_LIST_KEYS} is non-empty"))
    if kind == "map":
        errors += _list_keys(node, keys, path)
    return errors


def _list_keys(node: Object, keys: list[str], path: str) -> list[FieldError]:
    properties = part(node, "items", "properties")
    errors: list[FieldError] = []
    for index, key in enumerate(keys):
        at = f"{path}.{_LIST_KEYS}[{index}]"
        if key not in properties:
            errors.append(invalid_value(at, key, "must name a property of the items"))
        elif key not in entries(part(node, "items"), "required") and "default" not in properties[key]:
            detail = f"this property is in {_LIST_KEYS}, so it must have a default or be a required property"
            errors.append(required(f"{path}.items.properties[{key}].default", detail))
    return errors


def _extensions(node: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kind = text(node, "type")
    if node.get(_INT_OR_STRING) and kind:
        detail = f"must be empty if {_INT_OR_STRING} is true"
        errors.append(forbidden_field(f"{path}.type", detail))
    if node.get(_EMBEDDED):
        if kind != "object":
            errors.append(invalid_value(f"{path}.type", kind, f"must be object if {_EMBEDDED} is true"))
        if not part(node, "properties") and not node.get(_ANY):
            detail = f"must not be empty if {_EMBEDDED} is true without {_ANY}"
            errors.append(required(f"{path}.properties", detail))
    map_type = node.get("x-kubernetes-map-type")
    if map_type is not None and map_type not in _MAP_TYPES:
        errors.append(not_supported(f"{path}.x-kubernetes-map-type", map_type, _MAP_TYPES))
    return errors


def _default(value: Any, node: Object, path: str) -> list[FieldError]:
    """A default has to be of the type that it is a default of."""
    wanted, given = text(node, "type"), _json_type(value)
    if not wanted or value is None or given == wanted or (wanted == "number" and given == "integer"):
        return []
    message = f'Invalid value: "{given}":  in body must be of type {wanted}: "{given}"'
    return [FieldError("FieldValueTypeInvalid", path, message)]


def _json_type(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def refers_to_value(root: Object, json_path: str) -> bool:
    """Whether a simple path (`.spec.x`) leads to a boolean, integer or string of the schema."""
    node = root
    for step in json_path.removeprefix(".").split("."):
        child = part(node, "properties").get(step)
        if child is None:
            return False
        node = child
    return text(node, "type") in ("boolean", "integer", "string")
