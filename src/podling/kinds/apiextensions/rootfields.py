"""Which fields the root of a schema may have where `/status` is served: the schema of the status has to hold alone.

(`validateCustomResourceDefinitionValidation` of `pkg/apis/apiextensions/validation`)
"""

from __future__ import annotations

from typing import Any, Final, cast

from podling.api.errors import FieldError, invalid_value
from podling.store.types import Object

_FIELDS: Final = {
    # What Kubernetes calls the fields of a schema, in its order, and what each is when it is not there.
    **dict.fromkeys(("id", "$schema"), ""),
    "$ref": None,
    **dict.fromkeys(("description", "type"), ""),
    "nullable": False,
    **dict.fromkeys(("format", "title"), ""),
    **dict.fromkeys(("default", "maximum"), None),
    "exclusiveMaximum": False,
    "minimum": None,
    "exclusiveMinimum": False,
    **dict.fromkeys(("maxLength", "minLength"), None),
    "pattern": "",
    **dict.fromkeys(("maxItems", "minItems"), None),
    "uniqueItems": False,
    **dict.fromkeys(("multipleOf", "enum", "maxProperties", "minProperties", "required", "items"), None),
    **dict.fromkeys(("allOf", "oneOf", "anyOf", "not", "properties", "additionalProperties"), None),
    **dict.fromkeys(("patternProperties", "dependencies", "additionalItems", "definitions"), None),
    **dict.fromkeys(("externalDocs", "example", "x-kubernetes-preserve-unknown-fields"), None),
    **dict.fromkeys(("x-kubernetes-embedded-resource", "x-kubernetes-int-or-string"), False),
    **dict.fromkeys(("x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-map-type"), None),
    "x-kubernetes-validations": None,
}
_ALLOWED: Final = (
    *("Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum"),
    *("MaxLength", "MinLength", "Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items"),
    *("Properties", "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations"),
)
_RULE: Final = ("rule", "message", "messageExpression", "reason", "fieldPath", "optionalOldSelf")
_SCHEMAS: Final = ("not",)
_LISTS: Final = ("allOf", "oneOf", "anyOf")
_MAPS: Final = ("properties", "patternProperties", "definitions")


def check(root: Object, path: str) -> list[FieldError]:
    """The first field of the root that may not be there is told."""
    for key, nothing in _FIELDS.items():
        value = root.get(key, nothing)
        if value == nothing or value in ([], {}):
            continue
        if key == "type" and value != "object":
            detail = (
                'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
            )
            return [invalid_value(f"{path}.type", value, detail)]
        if _go_name(key) not in _ALLOWED:
            names = " ".join(_ALLOWED)
            detail = f"only [{names}] fields are allowed at the root of the schema if the status subresource is enabled"
            return [invalid_value(path, _go_schema(root), detail)]
    return []


def _go_name(key: str) -> str:
    if key == "id":
        return "ID"
    words = key.removeprefix("$").replace("x-kubernetes-", "x-").split("-")
    return "".join(word[:1].upper() + word[1:] for word in words)


def _go_schema(schema: Object) -> Object:
    """A schema as Kubernetes holds it, which is how errors show it."""
    return {_go_name(key): _go_value(key, schema.get(key, nothing)) for key, nothing in _FIELDS.items()}


def _go_value(key: str, value: Any) -> Any:
    match value:
        case dict() if key in _SCHEMAS:
            return _go_schema(cast(Object, value))
        case dict() if key in _MAPS:
            return {name: _go_schema(inner) for name, inner in sorted(cast("dict[str, Object]", value).items())}
        case list() if key in _LISTS:
            return [_go_schema(inner) for inner in cast("list[Object]", value)]
        case dict() if key == "items":
            return {"Schema": _go_schema(cast(Object, value)), "JSONSchemas": None}
        case bool() | dict() if key in ("additionalProperties", "additionalItems"):
            inner = _go_schema(cast(Object, value)) if isinstance(value, dict) else None
            return {"Allows": value is not False, "Schema": inner}
        case list() if key == "x-kubernetes-validations":
            return [_go_rule(rule) for rule in cast("list[Object]", value)]
        case _:
            return value


def _go_rule(rule: Object) -> Object:
    texts = ("rule", "message", "messageExpression", "fieldPath")
    return {_go_name(key): rule.get(key, "" if key in texts else None) for key in _RULE}
