"""From the bytes of a request to an object of the kind that the endpoint serves.

JSON, YAML and protobuf; unknown and repeated fields refused, warned of or ignored; errors worded as the API server's.
The result is what Go's decoding would make of the body (`structs`): pruned, normalised, owned by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from podling.api import gojson, gotext, patch, protobuf, yaml
from podling.api.errors import ApiError, bad_request, unsupported_media_type
from podling.api.resources import Resource
from podling.api.schema import Node, Schemas
from podling.api.structs import DecodeError, shape, unmarshal_error
from podling.store.types import Object

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
APPLY_YAML: Final = "application/apply-patch+yaml"

_ACCEPTED: Final = (JSON, YAML, PROTOBUF)
_SCHEME: Final = 'in scheme "pkg/api/legacyscheme/scheme.go:30"'
_META_SCHEME: Final = 'in scheme "pkg/apis/meta/internalversion/scheme/register.go:27"'
_HEADER_TYPE: Final = (
    'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
)
_DELETE_OPTIONS: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_SHOWN_BODY: Final = 30
"""How much of an unrecognisable body an error shows."""


@dataclass(slots=True)
class Decoded:
    """A body read: the object, owned by the caller, and what to warn the client of."""

    object: Object
    warnings: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class _Body:
    """A parsed body: any JSON value, and the repeated keys of a YAML one."""

    value: Any
    repeated: list[str] = field(default_factory=list[str])
    huge: str = ""
    """What is wrong with a number in it that is too large."""
    text: bytes = b""
    """Of JSON: for errors that show numbers as they were written."""


def media_type(content_type: str) -> str:
    """`application/json` of `application/json; charset=utf-8`; JSON where there is none."""
    return content_type.partition(";")[0].strip().lower() or JSON


def decode(
    body: bytes,
    content_type: str,
    *,
    resource: Resource,
    schemas: Schemas,
    field_validation: str = "Warn",
    applies: bool = True,
) -> Decoded:
    """The body of a create or update, or (by its content type) an apply configuration.

    An apply configuration is returned as it is, without any defaulting of types: `managed_fields.apply` checks it.
    Only where the request `applies` is one taken: nothing else checks its types.
    Raises ApiError: 400 for what cannot be decoded, 415 for another media type.
    """
    kind = media_type(content_type)
    if kind == APPLY_YAML and applies:
        return _decode_apply(body, resource, field_validation)
    if kind == PROTOBUF:
        return _decode_protobuf(body, resource, schemas)
    if kind not in _ACCEPTED:
        raise unsupported_media_type(_ACCEPTED)
    try:
        parsed = _parse(body, kind, field_validation != "Ignore")
        version, named = _type_of(parsed.value)
    except DecodeError as error:
        raise bad_request(_unrecognised(resource.kind, str(error), body)) from None
    return _typed(parsed, version, named, resource, schemas, field_validation)


def _parse(body: bytes, kind: str, strict: bool) -> _Body:
    try:
        if kind == YAML:
            document = yaml.load(body)
            return _Body(document.value, document.repeated)
        return _Body(gojson.loads_strict(body) if strict else gojson.loads(body), text=body)
    except gojson.HugeNumberError as error:
        return _Body(error.value, huge=str(error))
    except yaml.YamlError as error:
        raise DecodeError(f"error converting YAML to JSON: {error}") from None
    except gojson.JsonError as error:
        raise DecodeError(f"couldn't get version/kind; json parse error: {error}") from None


def _type_of(value: Any) -> tuple[str, str]:
    """`apiVersion` and `kind` as the body has them."""
    if value is None:
        return "", ""
    if not isinstance(value, dict):
        raise DecodeError(f"couldn't get version/kind; json parse error: {unmarshal_error(value, _HEADER_TYPE)}")
    members = cast(Object, value)
    found: list[str] = []
    for name in ("apiVersion", "kind"):
        text = members.get(name)
        if text is None:  # this part alone is read by a decoder that does not mind capitals
            text = next((members[key] for key in members if key.lower() == name.lower()), None)
        if text is not None and not isinstance(text, str):
            problem = unmarshal_error(text, "string", f".{name}")
            raise DecodeError(f"couldn't get version/kind; json parse error: {problem}")
        found.append(text or "")
    version, named = found
    if version.count("/") > 1:
        raise DecodeError(f"unexpected GroupVersion string: {version}")
    return version, named


def _unrecognised(kind: str, why: str, body: bytes) -> str:
    return f"the object provided is unrecognized (must be of type {kind}): {why} ({_summary(body)})"


def _summary(body: bytes) -> str:
    if not body:
        return "<empty>"
    more = " ..." if len(body) > _SHOWN_BODY else ""
    head = body[:_SHOWN_BODY]
    return (head.decode(errors="replace") if body[:1] == b"{" else head.hex()) + more


def _typed(
    parsed: _Body, version: str, named: str, resource: Resource, schemas: Schemas, field_validation: str
) -> Decoded:
    """The object by its declared type, or by the endpoint's where it declares none."""
    version, named = version or resource.api_version, named or resource.kind
    node = _node_of(version, named, resource, schemas)

    def refusal(why: str) -> ApiError:
        short = version.rpartition("/")[2]
        return bad_request(f'{named} in version "{short}" cannot be handled as a {resource.kind}: {why}')

    if node is None:
        raise refusal(f'no kind "{named}" is registered for version "{version}" {_SCHEME}')
    try:
        obj, strict = shape(parsed.value if parsed.value is not None else {}, node)
    except DecodeError as error:
        raise refusal(_literally(parsed, node, error)) from None
    if parsed.huge:
        raise refusal(parsed.huge)
    _check_kind(version, named, resource, refusal)
    repeated, strict = (parsed.repeated, strict) if field_validation != "Ignore" else ([], [])
    if (repeated or strict) and field_validation == "Strict":
        problems = [_yaml_problem(repeated), *strict] if repeated else strict
        raise refusal("strict decoding error: " + ", ".join(problems))
    _check_version(version, resource)
    return Decoded(_whole(version, named, obj), [*repeated, *strict])


def _literally(parsed: _Body, node: Node, error: DecodeError) -> str:
    """An error as Go words it, which shows a number as the client wrote it."""
    if not parsed.text or "cannot unmarshal number " not in str(error):
        return str(error)
    try:
        shape(gojson.literal(parsed.text), node)
    except DecodeError as worded:
        return str(worded)
    return str(error)


def _whole(version: str, named: str, obj: Object) -> Object:
    return {"kind": named, "apiVersion": version, "metadata": {}, **_without_type(obj)}


def _without_type(obj: Object) -> Object:
    return {name: value for name, value in obj.items() if name not in {"kind", "apiVersion"}}


def _yaml_problem(repeated: list[str]) -> str:
    return "yaml: unmarshal errors:\n  " + "\n  ".join(repeated)


def _node_of(version: str, named: str, resource: Resource, schemas: Schemas) -> Node | None:
    if (version, named) == (resource.api_version, resource.kind):
        return schemas.node(resource.schema)
    group, _, short = version.rpartition("/")
    definition = schemas.definition_of(group, short, named)
    return schemas.node(definition) if definition is not None else None


def _check_kind(version: str, named: str, resource: Resource, refusal: Callable[[str], ApiError]) -> None:
    """Another kind cannot be converted."""
    group, _, short = version.rpartition("/")
    if named != resource.kind or group != resource.group:
        internal = (resource.group or "core").partition(".")[0]
        raise refusal(f"converting ({short}.{named}) to ({internal}.{resource.kind}): unknown conversion")


def _check_version(version: str, resource: Resource) -> None:
    """Another version of the kind is not what this endpoint takes."""
    if version != resource.api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
        )


# --- patches


def decode_patched(
    live: Object,
    outcome: Any,
    resource: Resource,
    schemas: Schemas,
    field_validation: str = "Warn",
    *,
    strategic: Object | None = None,
    problems: Sequence[str] = (),
) -> Decoded:
    """The outcome of a patch as an object of the kind; `strategic` is the document of a strategic merge patch, and
    `problems` what strict reading of the patch found.

    Raises ApiError 422 when it is none, with the outcome in it (or the strategic patch), as the API server does.
    """

    def refusal(why: str) -> ApiError:
        if strategic is not None:
            return patch.refused(gotext.plain(strategic), why)
        return patch.refused(patch.patched_json(live, outcome, schemas.node(resource.schema)), why)

    if not isinstance(outcome, dict):
        problem = unmarshal_error(outcome, _HEADER_TYPE)
        raise refusal(f"couldn't get version/kind; json parse error: {problem}")
    patched = cast(Object, outcome)
    version, named = patched.get("apiVersion") or resource.api_version, patched.get("kind") or resource.kind
    if not isinstance(version, str) or not isinstance(named, str):
        name = "kind" if isinstance(version, str) else "apiVersion"
        problem = unmarshal_error(patched[name], "string", f".{name}")
        raise refusal(f"couldn't get version/kind; json parse error: {problem}")
    node = _node_of(version, named, resource, schemas)
    if node is None:
        raise refusal(f'no kind "{named}" is registered for version "{version}" {_SCHEME}')
    settled = live if node is schemas.node(resource.schema) else None
    try:
        obj, strict = shape(patched, node, unstructured=strategic is not None, settled=settled)
    except DecodeError as error:
        raise refusal(str(error)) from None
    _check_kind(version, named, resource, refusal)
    found = [*problems, *strict] if field_validation != "Ignore" else []
    if found and field_validation == "Strict":
        raise refusal("strict decoding error: " + ", ".join(found))
    _check_version(version, resource)
    return Decoded(_whole(version, named, obj), found)


def _decode_apply(body: bytes, resource: Resource, field_validation: str) -> Decoded:
    try:
        document = yaml.load(body)
    except yaml.YamlError as error:
        raise bad_request(f"error decoding YAML: error converting YAML to JSON: {error}") from None
    value: Any = document.value
    if value is not None and not isinstance(value, dict):
        problem = unmarshal_error(value, "map[string]interface {}")
        raise bad_request(f"error decoding YAML: error unmarshaling JSON: while decoding JSON: {problem}")
    config = cast(Object, value or {})
    version, named = (text if isinstance(text := config.get(key), str) else "" for key in ("apiVersion", "kind"))
    if (version, named) != (resource.api_version, resource.kind):
        group, _, short = version.rpartition("/")
        raise bad_request(f"invalid object type: {group}/{short}, Kind={named}")
    repeated = document.repeated
    if repeated and field_validation == "Strict":
        raise bad_request(f"error strict decoding YAML: error converting YAML to JSON: {_yaml_problem(repeated)}")
    return Decoded(config, repeated if field_validation == "Warn" else [])


# --- protobuf


def _decode_protobuf(body: bytes, resource: Resource, schemas: Schemas) -> Decoded:
    try:
        version, named, message = protobuf.unwrap(body)
        version, named = version or resource.api_version, named or resource.kind
        node = _node_of(version, named, resource, schemas)
        value = protobuf.message(message, node) if node is not None else None
    except protobuf.ProtobufError as error:
        raise bad_request(_unrecognised(resource.kind, str(error), body)) from None
    return _typed(_Body(value), version, named, resource, schemas, "Ignore")


# --- options


def decode_options(body: bytes, content_type: str, *, schemas: Schemas) -> Object:
    """The DeleteOptions in the body of a DELETE; `{}` for an empty one. Raises ApiError 400 or 415."""
    if not body:
        return {}
    kind = media_type(content_type)
    if kind not in _ACCEPTED:
        raise unsupported_media_type(_ACCEPTED)
    node = schemas.node(_DELETE_OPTIONS)
    version, named, value = _options_value(body, kind, node)
    if named not in {"", "DeleteOptions"}:
        raise bad_request(f'no kind "{named}" is registered for version "{version}" {_META_SCHEME}')
    try:
        return _without_type(shape(value or {}, node)[0])
    except DecodeError as error:
        raise bad_request(str(error)) from None


def _options_value(body: bytes, kind: str, node: Node) -> tuple[str, str, Any]:
    try:
        if kind == PROTOBUF:
            version, named, message = protobuf.unwrap(body)
            return version, named, protobuf.message(message, node)
        value = _parse(body, kind, False).value
        return *_type_of(value), value
    except (DecodeError, protobuf.ProtobufError) as error:
        raise bad_request(str(error)) from None
