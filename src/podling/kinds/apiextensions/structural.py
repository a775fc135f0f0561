"""Whether the schema of a custom resource is structural: every value's type is told where the value is.

Two sets of rules, in the order in which Kubernetes tells them: those of
`apiextensions-apiserver/pkg/apiserver/schema/validation.go`, sorted, and the older ones of
`pkg/apis/apiextensions/validation`. CEL rules have a module of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from podling.api.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from podling.api.regexp import RegexpError, regexp
from podling.kinds.apiextensions import rootfields, rules
from podling.kinds.apiextensions.instances import structure
from podling.kinds.apiextensions.instances.rules import compile_rules
from podling.kinds.apiextensions.instances.schema import compile_schema, known_format, problems
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.values import Budget

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED: Final = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_LIST_TYPES: Final = ("atomic", "set", "map")
_MAP_TYPES: Final = ("atomic", "granular")
_ANY: Final = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_EMBEDDED: Final = "x-kubernetes-embedded-resource"
_LIST_TYPE: Final = "x-kubernetes-list-type"
_LIST_KEYS: Final = "x-kubernetes-list-map-keys"
_MAP_TYPE: Final = "x-kubernetes-map-type"
_RULES: Final = "x-kubernetes-validations"
_EITHER_TYPE: Final = [{"type": "integer"}, {"type": "string"}]
_MISSING_TYPE: Final = {
    "root": "must not be empty at the root",
    "items": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}
_META: Final = ("metadata", "kind", "apiVersion")
_NESTED_ONLY: Final = (
    # What a schema below allOf, anyOf, oneOf or not cannot say, and how that is told.
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    (_ANY, "must be false to be structural"),
    (_EMBEDDED, "must be false to be structural"),
    (_INT_OR_STRING, "must be false to be structural"),
    (_LIST_KEYS, "must be empty to be structural"),
    (_LIST_TYPE, "must be undefined to be structural"),
    (_MAP_TYPE, "must be undefined to be structural"),
    (_RULES, "must be empty to be structural"),
)


def schema(root: Object, path: str, *, with_status: bool = False) -> list[FieldError]:
    """The problems of `openAPIV3Schema`; `with_status` says that `/status` is served, which asks more of the root."""
    errors = rootfields.check(root, path) if with_status else []
    if root.get("nullable"):
        errors.append(forbidden_field(f"{path}.nullable", "nullable cannot be true at the root"))
    formless = _formless(root)
    form: list[FieldError] = []
    if not formless:
        form = sorted(_invariants(root, path, "root") + _completeness(root, root, path, path), key=str)
        form = form or _defaults(root, path)
    own = _openapi(root, path, root=True)
    errors += form + own
    if formless and not errors:
        return [invalid_value(path, "", formless)]
    return errors if form or formless else errors + rules.check(root, path, own)


def _formless(node: Object) -> str:
    """Why a schema cannot be looked at as a structural one at all; `""`: it can."""
    for key in ("id", "$schema", "$ref", "patternProperties", "dependencies", "additionalItems", "definitions"):
        if node.get(key):
            return f"OpenAPIV3Schema '{'schema' if key == '$schema' else key}' is not supported"
    if node.get(_ANY) is False:
        return f"internal error: '{_ANY}' must be true or undefined"
    if isinstance(node.get("items"), list) and node["items"]:
        return "OpenAPIV3Schema 'items' must be a schema, but is an array"
    below = [child for _, child, _ in _below(node)] + [child for _, child in _junctors(node)]
    return next((why for child in below if (why := _formless(child))), "")


def _below(node: Object) -> Iterator[tuple[str, Object, str]]:
    """The schemas of the values inside a value: the step to each, and its level."""
    if isinstance(node.get("items"), dict):
        yield "items", part(node, "items"), "items"
    for name, child in part(node, "properties").items():
        yield f"properties[{name}]", child, "field"
    if isinstance(node.get("additionalProperties"), dict):
        yield "additionalProperties", part(node, "additionalProperties"), "field"


def _junctors(node: Object) -> Iterator[tuple[str, Object]]:
    """The schemas that the same value is held to besides."""
    for key in ("anyOf", "allOf", "oneOf"):
        yield from each(key, node.get(key))
    if node.get("not") is not None:
        yield "not", part(node, "not")


def _invariants(node: Object, path: str, level: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if text(node, "type") == "array" and node.get("items") is None:
        errors.append(required(f"{path}.items", "must be specified"))
    for step, child, below in _below(node):
        errors += _invariants(child, f"{path}.{step}", below)
    if node.get("additionalProperties") is not None and level == "root":
        errors.append(forbidden_field(f"{path}.additionalProperties", "must not be used at the root"))
    errors += _int_or_string(node, path)
    errors += _validations(node, path)
    errors += _type(node, path, level)
    if node.get(_EMBEDDED):
        errors += _embedded(node, path)
    if level == "root" or node.get(_EMBEDDED):
        errors += _own_fields(node, path, level)
    return errors


def _int_or_string(node: Object, path: str) -> list[FieldError]:
    if not node.get(_INT_OR_STRING):
        return []
    detail = f"must be false if {_INT_OR_STRING} is true"
    return [invalid_value(f"{path}.{key}", True, detail) for key in (_ANY, _EMBEDDED) if node.get(key)]


def _validations(node: Object, path: str) -> list[FieldError]:
    """What is asked of the value besides its form."""
    errors: list[FieldError] = []
    in_all: Any = entries(node, "allOf")[0].get("anyOf") if entries(node, "allOf") else None
    for step, child in _junctors(node):
        either = step.startswith("anyOf") and node.get("anyOf") == _EITHER_TYPE
        if not either:
            errors += _nested(child, f"{path}.{step}", either=step == "allOf[0]" and in_all == _EITHER_TYPE)
    return errors + _pattern(node, path)


def _nested(node: Object, path: str, *, either: bool = False) -> list[FieldError]:
    errors: list[FieldError] = []
    for step, child in _junctors(node):
        if not (either and step.startswith("anyOf")):
            errors += _nested(child, f"{path}.{step}")
    errors += _pattern(node, path)
    for step, child, _ in _below(node):
        if step != "additionalProperties":
            errors += _nested(child, f"{path}.{step}")
    for key, detail in _NESTED_ONLY:
        if node.get(key) not in (None, "", False, []):
            errors.append(forbidden_field(f"{path}.{key}", detail))
    if "metadata" in part(node, "properties"):
        errors.append(forbidden_field(f"{path}.properties[metadata]", "must not be specified in a nested context"))
    return errors


def _type(node: Object, path: str, level: str) -> list[FieldError]:
    kind = text(node, "type")
    if node.get(_EMBEDDED) and kind != "object":
        detail = f"must be object if {_EMBEDDED} is true"
        return [_type_problem(kind, f"{path}.type", detail)]
    if not kind and not untyped(node):
        return [required(f"{path}.type", _MISSING_TYPE[level])]
    if level == "root" and kind not in ("", "object"):
        return [invalid_value(f"{path}.type", kind, "must be object at the root")]
    return []


def _type_problem(kind: str, path: str, detail: str) -> FieldError:
    return invalid_value(path, kind, detail) if kind else required(path, detail)


def untyped(node: Object) -> bool:
    """Whether a value may be of any type."""
    return bool(node.get(_ANY) or node.get(_INT_OR_STRING))


def _embedded(node: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if node.get("additionalProperties") is not None:
        errors.append(forbidden_field(f"{path}.additionalProperties", f"must not be used if {_EMBEDDED} is set"))
    if not part(node, "properties") and not node.get(_ANY):
        detail = f"must not be empty if {_EMBEDDED} is true without {_ANY}"
        errors.append(required(f"{path}.properties", detail))
    return errors


def _own_fields(node: Object, path: str, level: str) -> list[FieldError]:
    """`kind`, `apiVersion` and `metadata` are what they are for all objects."""
    properties = part(node, "properties")
    errors = [
        invalid_value(f"{path}.properties[{key}].type", text(properties[key], "type"), "must be string")
        for key in ("kind", "apiVersion")
        if key in properties and text(properties[key], "type") != "string"
    ]
    metadata: Object | None = properties.get("metadata")
    if metadata is None:
        return errors
    at = f"{path}.properties[metadata]"
    if text(metadata, "type") != "object":
        errors.append(invalid_value(f"{at}.type", text(metadata, "type"), "must be object"))
    others = metadata.keys() - {"type", "properties", "default"}
    if level == "root" and (others or part(metadata, "properties").keys() - {"name", "generateName"}):
        detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        errors.append(forbidden_field(at, detail))
    return errors


def _pattern(node: Object, path: str) -> list[FieldError]:
    pattern = text(node, "pattern")
    if not pattern:
        return []
    try:
        regexp(pattern)
    except RegexpError as error:
        detail = f"must be a valid regular expression, but isn't: {error}"
        return [invalid_value(f"{path}.pattern", pattern, detail)]
    return []


def _completeness(node: Object, form: Object | None, form_path: str, path: str) -> list[FieldError]:
    """What is asked of a value below a junctor is asked of one that has a form."""
    errors: list[FieldError] = []
    for step, child in _junctors(node):
        errors += _has_form(child, form, form_path, f"{path}.{step}")
    return errors


def _has_form(node: Object, form: Object | None, form_path: str, path: str) -> list[FieldError]:
    if form is None:
        return [required(form_path, f"because it is defined in {path}")]
    errors = _completeness(node, form, form_path, path)
    if isinstance(node.get("items"), dict):
        errors += _has_form(part(node, "items"), form.get("items"), f"{form_path}.items", f"{path}.items")
    properties = part(form, "properties")
    for name, child in part(node, "properties").items():
        step = f"properties[{name}]"
        errors += _has_form(child, properties.get(name), f"{form_path}.{step}", f"{path}.{step}")
    return errors


def _defaults(root: Object, path: str) -> list[FieldError]:
    """A default is a value that could have been given: it fits the whole schema, and nothing of it would be pruned."""
    from podling.cel.values import Budget

    return list(_defaults_below(root, path, _Around(root, ()), Budget()))


class _Around(NamedTuple):
    """The object that a default is a part of."""

    root: Object
    steps: tuple[str, ...]
    in_meta: bool = False

    def below(self, node: Object, step: str, name: str) -> _Around:
        own = step.startswith("properties") and name in _META and (node is self.root or node.get(_EMBEDDED))
        return _Around(self.root, (*self.steps, name), self.in_meta or bool(own))

    def holding(self, value: Any) -> Object:
        for step in reversed(self.steps):
            value = [value] if step == _ITEM else {step: value}
        return {"apiVersion": "validation/v1", "kind": "Validation", **cast(Object, value)}


_ITEM: Final = "*"


def _defaults_below(node: Object, path: str, around: _Around, budget: Budget) -> Iterator[FieldError]:
    if node.get(_EMBEDDED):
        around = _Around(node, ())
    if node.get("default") is not None:
        yield from _default(node["default"], node, f"{path}.default", around, budget)
    for step, child, _ in _below(node):
        if step != "additionalProperties":
            name = step.removeprefix("properties[").removesuffix("]") if step != "items" else _ITEM
            yield from _defaults_below(child, f"{path}.{step}", around.below(node, step, name), budget)


def _default(value: Any, node: Object, path: str, around: _Around, budget: Budget) -> list[FieldError]:
    if around.in_meta:
        root = {**around.root, _EMBEDDED: True}
        wrong = structure.embedded(root, around.holding(value), root=False)
        if wrong:
            said = wrong[0] if len(wrong) == 1 else f"[{', '.join(map(str, wrong))}]"
            return [invalid_value(path, value, f"must result in valid metadata: {said}")]
        return _as_given(value, node, path, budget, root=False)
    errors = [] if _is_pruned(value, node) else [invalid_value(path, value, "must not have unknown fields")]
    return errors + (
        structure.embedded(node, value, path, root=False)
        or _as_given(value, node, path, budget, root=node is around.root)
    )


def _as_given(value: Any, node: Object, path: str, budget: Budget, *, root: bool) -> list[FieldError]:
    """What would be said of a default if a client had sent it, as a new value and as one that has not changed."""
    if found := problems(compile_schema(node), value, None):
        return [replace(e, field=f"{path}.{e.field}" if e.field != _NOWHERE else path) for e in found]
    compiled = compile_rules(node, root=root)
    if compiled is None:
        return []
    return compiled.problems(value, value, path=path, budget=budget, ratchets=False) or compiled.problems(
        value, None, path=path, budget=budget
    )


_NOWHERE: Final = "<nil>"


def _is_pruned(value: Any, node: Object) -> bool:
    if isinstance(value, list):
        items = part(node, "items") if isinstance(node.get("items"), dict) else {_ANY: node.get(_ANY)}
        inner = {**items, _ANY: True} if node.get(_ANY) else items
        return all(_is_pruned(item, inner) for item in cast("list[Any]", value))
    if not isinstance(value, dict):
        return True
    others: Any = node.get("additionalProperties")
    known: Mapping[str, Object] = part(node, "properties")
    own = _META if node.get(_EMBEDDED) else ()
    for name, member in cast(Object, value).items():
        inner = known.get(name) or (cast(Object, others) if isinstance(others, dict) else None)
        if name in own:
            continue
        if inner is None and others is not True and not node.get(_ANY):
            return False
        if inner is not None and not _is_pruned(member, inner):
            return False
    return True


# The older rules


def _openapi(
    node: Object, path: str, *, root: bool = False, no_default: str | None = None, in_meta: bool = False
) -> list[FieldError]:
    """`no_default` says why a default would be refused, `in_meta` that the value is inside an object's metadata."""
    errors = _supported(node, path, no_default, in_meta)
    if node.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.append(forbidden_field(f"{path}.uniqueItems", detail))
    others: Any = node.get("additionalProperties")
    if others is not None:
        if part(node, "properties") and others is not True:
            detail = "additionalProperties and properties are mutual exclusive"
            errors.append(forbidden_field(f"{path}.additionalProperties", detail))
        if isinstance(others, dict):
            why = "inside additionalProperties applying to object metadata" if in_meta else no_default
            errors += _openapi(cast(Object, others), f"{path}.additionalProperties", no_default=why, in_meta=in_meta)
    for name, child in part(node, "properties").items():
        own = (root or bool(node.get(_EMBEDDED))) and name in _META
        why = f"in top-level {name}" if own and root else no_default
        errors += _openapi(child, f"{path}.properties[{name}]", no_default=why, in_meta=in_meta or own)
    for step, child in _junctors(node):
        errors += _openapi(child, f"{path}.{step}", no_default=no_default, in_meta=in_meta)
    if isinstance(node.get("items"), dict):
        errors += _openapi(part(node, "items"), f"{path}.items", no_default=no_default, in_meta=in_meta)
    return errors + _extensions(node, path) + rules.forms(node, path)


def _supported(node: Object, path: str, no_default: str | None, in_meta: bool) -> list[FieldError]:
    kind = text(node, "type")
    errors = [not_supported(f"{path}.type", kind, _TYPES)] if kind and kind not in _TYPES else []
    if "default" in node and no_default is not None:
        errors.append(forbidden_field(f"{path}.default", f"must not be set {no_default}"))
    errors += [forbidden_field(f"{path}.{key}", f"{key} is not supported") for key in _UNSUPPORTED if node.get(key)]
    if kind == "null":
        detail = "type cannot be set to null, use nullable as an alternative"
        errors.append(forbidden_field(f"{path}.type", detail))
    if isinstance(node.get("items"), list) and node["items"]:
        errors.append(forbidden_field(f"{path}.items", "items must be a schema object and not an array"))
    if in_meta and node.get(_EMBEDDED):
        errors.append(forbidden_field(f"{path}.{_EMBEDDED}", "must not be used inside of resource meta"))
    return errors


def _extensions(node: Object, path: str) -> list[FieldError]:
    kind, map_type = text(node, "type"), node.get(_MAP_TYPE)
    errors: list[FieldError] = []
    if node.get(_ANY) is False:
        errors.append(invalid_value(f"{path}.{_ANY}", False, "must be true or undefined"))
    if map_type is not None and kind != "object":
        errors.append(_type_problem(kind, f"{path}.type", f"must be object if {_MAP_TYPE} is specified"))
    if map_type is not None and map_type not in _MAP_TYPES:
        errors.append(not_supported(f"{path}.{_MAP_TYPE}", map_type, _MAP_TYPES))
    return errors + _list(node, path)


def _list(node: Object, path: str) -> list[FieldError]:
    kind, keys = node.get(_LIST_TYPE), entries(node, _LIST_KEYS)
    items = part(node, "items") if isinstance(node.get("items"), dict) else {}
    errors: list[FieldError] = []
    if kind is not None and text(node, "type") != "array":
        errors.append(_type_problem(text(node, "type"), f"{path}.type", f"must be array if {_LIST_TYPE} is specified"))
    elif kind == "set":
        errors += _set_items(items, f"{path}.items")
    if kind is not None and kind not in _LIST_TYPES:
        errors.append(not_supported(f"{path}.{_LIST_TYPE}", kind, _LIST_TYPES))
    if keys and kind != "map":
        errors.append(_type_problem(kind or "", f"{path}.{_LIST_TYPE}", f"must be map if {_LIST_KEYS} is non-empty"))
    if kind == "map":
        errors += _map_items(node, items, keys, path)
    return errors + (_item_keys(kind, items, keys, f"{path}.items") if kind in ("map", "set") and items else [])


def _set_items(items: Object, path: str) -> list[FieldError]:
    """The items of a set are compared whole."""
    detail = f"must be atomic as item of a list with {_LIST_TYPE}=set"
    match text(items, "type"):
        case "array" if items.get(_LIST_TYPE) not in (None, "atomic"):
            return [invalid_value(f"{path}.{_LIST_TYPE}", items[_LIST_TYPE], detail)]
        case "object" if items.get(_MAP_TYPE) != "atomic":
            # The value that Kubernetes shows is that of the other extension.
            return [invalid_value(f"{path}.{_MAP_TYPE}", items.get(_LIST_TYPE), detail)]
        case _:
            return []


def _map_items(node: Object, items: Object, keys: list[str], path: str) -> list[FieldError]:
    at = f"{path}.{_LIST_KEYS}"
    errors = [] if keys else [required(at, f"must not be empty if {_LIST_TYPE} is map")]
    if node.get("items") is None:
        return [*errors, required(f"{path}.items", f"must have a schema if {_LIST_TYPE} is map")]
    if text(items, "type") != "object":
        detail = f"must be object if parent array's {_LIST_TYPE} is map"
        return [*errors, invalid_value(f"{path}.items.type", text(items, "type"), detail)]
    properties = part(items, "properties")
    for index, key in enumerate(keys):
        if key not in properties:
            errors.append(invalid_value(at, keys, "entries must all be names of item properties"))
        elif text(properties[key], "type") in ("array", "object"):
            detail = f"must be a scalar type if parent array's {_LIST_TYPE} is map"
            errors.append(invalid_value(f"{path}.items.properties[{key}].type", "object", detail))
        if key in keys[:index]:
            errors.append(invalid_value(at, keys, "must not contain duplicate entries"))
    return errors


def _item_keys(kind: str, items: Object, keys: list[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if items.get("nullable"):
        errors.append(forbidden_field(f"{path}.nullable", f"cannot be nullable when {_LIST_TYPE} is {kind}"))
    properties = part(items, "properties")
    for key in keys if kind == "map" else ():
        if key not in properties:
            continue
        at = f"{path}.properties[{key}]"
        if key not in entries(items, "required") and "default" not in properties[key]:
            detail = f"this property is in {_LIST_KEYS}, so it must have a default or be a required property"
            errors.append(required(f"{at}.default", detail))
        if properties[key].get("nullable"):
            detail = f"this property is in {_LIST_KEYS}, so it cannot be nullable"
            errors.append(forbidden_field(f"{at}.nullable", detail))
    return errors


def unknown_formats(node: Object) -> Iterator[str]:
    """The formats in a schema that are not checked, because they mean nothing where they stand."""
    if node.get("format") and not known_format(node):
        yield node["format"]
    for child in (*(child for _, child, _ in _below(node)), *(child for _, child in _junctors(node))):
        yield from unknown_formats(child)
