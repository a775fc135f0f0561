"""The OpenAPI documents: `/openapi/v3` (an index and one document per group-version) and `/openapi/v2`.

kubectl reads them to validate, to patch (merge keys), to explain, and to learn whether PATCH takes `dryRun` and
`fieldValidation`. kubectl up to 1.27 wants version 2 in gnostic's protobuf. Documents are made from the schema pack
when first asked for and kept as bytes; a change of the served resources makes a new `OpenApi`.

The pack has no descriptions. They appear when the optional package `kubernetes-validate` is installed: it has them.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final, NamedTuple, cast

import orjson

from podling.api.discovery import subresource_kind, subresource_verbs, subresources_of
from podling.api.resources import Resource
from podling.api.schema import Schemas
from podling.store.types import Object

JSON: Final = "application/json"
V2_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
VERSION: Final = "v1.36.2"
_INDEX_TYPE: Final = "text/plain; charset=utf-8"
"""What Kubernetes calls the index: it serves it as a file, and Go guesses."""

_DESCRIPTIONS_MINOR: Final = "v1.36.0"
_STRATEGIC: Final = "application/strategic-merge-patch+json"
_PATCH_TYPES: Final = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    _STRATEGIC,
)
_WRITE_PARAMETERS: Final = ("dryRun", "fieldManager", "fieldValidation")
_LIST_PARAMETERS: Final = (
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
)
_DELETE_PARAMETERS: Final = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")
_PARAMETER_TYPES: Final = {
    "allowWatchBookmarks": "boolean",
    "force": "boolean",
    "gracePeriodSeconds": "integer",
    "limit": "integer",
    "orphanDependents": "boolean",
    "sendInitialEvents": "boolean",
    "timeoutSeconds": "integer",
    "watch": "boolean",
}
_DELETE_OPTIONS: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_STATUS: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"


_FOR_EVER: Final = ("Cache-Control", "public, immutable")


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


class Descriptions:
    """The prose of the definitions, where the package that has it is installed."""

    def __init__(self, definitions: Mapping[str, Object]) -> None:
        self._definitions = definitions

    @classmethod
    def load(cls) -> Descriptions:
        """Reads the package's data (about 20 ms), or nothing when it is not installed."""
        if importlib.util.find_spec("kubernetes_validate") is None:
            return cls({})
        folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"{_DESCRIPTIONS_MINOR}-local"
        try:
            data = orjson.loads((folder / "_definitions.json").read_bytes())
        except FileNotFoundError:
            return cls({})
        return cls(cast("dict[str, Object]", data["$defs"]))

    def of(self, definition: str) -> str:
        return cast(str, self._definitions.get(definition, {}).get("description", ""))

    def of_field(self, definition: str, name: str) -> str:
        properties = self._definitions.get(definition, {}).get("properties", {})
        return cast(str, properties.get(name, {}).get("description", ""))


class _Dialect(NamedTuple):
    """How a version of OpenAPI writes what differs."""

    reference: str
    """What stands before a definition's name."""
    formats: Mapping[str, Object]
    has_defaults: bool


_ANY: Final[Object] = {"type": "object"}
_DATE_TIME: Final[Object] = {"type": "string", "format": "date-time"}
_V3: Final = _Dialect(
    "#/components/schemas/",
    {
        "int-or-string": {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"},
        "quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
        "micro-time": _DATE_TIME,
        "duration": {"type": "string"},
        "any-object": _ANY,
    },
    True,
)
_V2: Final = _Dialect(
    "#/definitions/",
    {
        "int-or-string": {"type": "string", "format": "int-or-string"},
        "quantity": {"type": "string"},
        "micro-time": _DATE_TIME,
        "duration": {"type": "string"},
        "any-object": _ANY,
    },
    False,
)
_UNSPECIFIED: Final = frozenset({"any", "schema-or-bool", "schema-or-array", "schema-or-strings"})
_ZEROS: Final[dict[str, Any]] = {"string": "", "integer": 0, "number": 0, "boolean": False}


class _Writer:
    """Writes packed definitions as OpenAPI schemas, and notes which others they refer to."""

    def __init__(self, schemas: Schemas, dialect: _Dialect, descriptions: Descriptions) -> None:
        self._schemas = schemas
        self._dialect = dialect
        self._descriptions = descriptions
        self._wanted: list[str] = []

    def closure(self, names: Iterable[str]) -> Object:
        """The definitions and all that they refer to, by name."""
        self._wanted = list(names)
        written: Object = {}
        while self._wanted:
            name = self._wanted.pop()
            if name not in written and name in self._schemas:
                written[name] = self._definition(name)
        return {name: written[name] for name in sorted(written)}

    def reference(self, name: str) -> Object:
        return {"$ref": self._dialect.reference + name}

    def _definition(self, name: str) -> Object:
        packed = self._schemas.definition(name)
        result = self._schema(packed, name)
        description = self._descriptions.of(name)
        return {"description": description, **result} if description else result

    def _schema(self, packed: Object, definition: str) -> Object:
        if "$ref" in packed:
            return self._referring(packed)
        special = packed.get("format", "")
        if special in _UNSPECIFIED:
            return {}
        result: Object = {}
        for key, value in packed.items():
            if key == "properties":
                result[key] = {
                    name: self._field(child, definition, name) for name, child in cast(Object, value).items()
                }
            elif key in {"items", "additionalProperties"} and isinstance(value, dict):
                result[key] = self._element(cast(Object, value), packed, definition)
            elif key != "go":
                result[key] = value
        return {**result, **self._dialect.formats.get(special, {})} if special else result

    def _referring(self, packed: Object) -> Object:
        name = packed["$ref"]
        self._wanted.append(name)
        beside = {key: value for key, value in packed.items() if key not in {"$ref", "go"}}
        reference = self.reference(name)
        if not self._dialect.has_defaults:
            return {**reference, **beside}
        return {"allOf": [reference], **beside} if beside else reference

    def _field(self, packed: Object, definition: str, name: str) -> Object:
        result = self._schema(packed, definition)
        beside: Object = {}
        description = _with_values(self._descriptions.of_field(definition, name), packed)
        if description:
            beside["description"] = description
        if self._dialect.has_defaults and "go" in packed:
            default = self._default(packed)
            if default is not None:
                beside["default"] = default
        if not beside:
            return result
        if self._dialect.has_defaults and "$ref" in result:
            return {"allOf": [result], **beside}
        return {**result, **beside}

    def _default(self, packed: Object) -> Any:
        """What the published documents give as default: the zero value of what is no pointer."""
        flags = packed["go"][2]
        if "*" in flags:
            return None
        if "$ref" in packed:
            return {} if "properties" in self._schemas.definition(packed["$ref"]) else None
        return None if "o" in flags else _zero(packed)

    def _element(self, packed: Object, parent: Object, definition: str) -> Object:
        result = self._schema(packed, definition)
        if not self._dialect.has_defaults or "go" not in parent:
            return result
        if "$ref" in packed:
            is_struct = "properties" in self._schemas.definition(packed["$ref"])
            return {"allOf": [result], "default": {}} if is_struct else result
        default = _zero(packed)
        return {**result, "default": default} if default is not None else result


def _zero(packed: Object) -> Any:
    """The default of what is not given; none where it is no value that may be given."""
    return None if "enum" in packed else _ZEROS.get(packed.get("type", ""))


def _with_values(description: str, packed: Object) -> str:
    """A description, with the values that a field may have, as the published documents list them."""
    values = cast("list[str]", packed.get("enum") or [])
    if not values or not description:
        return description
    return "\n".join([description, "", "Possible enum values:", *(f' - `"{value}"`' for value in values)])


def _gvk(group: str, version: str, kind: str) -> Object:
    return {"group": group, "kind": kind, "version": version}


def _base_path(resource: Resource) -> str:
    root = f"/apis/{resource.group}" if resource.group else "/api"
    return f"{root}/{resource.version}"


def _collection_path(resource: Resource) -> str:
    namespace = "/namespaces/{namespace}" if resource.namespaced else ""
    return f"{_base_path(resource)}{namespace}/{resource.plural}"


class _Action(NamedTuple):
    """An operation on a path: what the documents say of it in either version."""

    method: str
    action: str
    parameters: Sequence[str]
    body: str
    """The definition of the request's body; `""` for none."""
    answer: str
    gvk: Object
    id: str = ""
    """What generated clients call it: `listCoreV1NamespacedPod`."""
    tag: str = ""
    """In what it is put there: `core_v1`."""


_VERB_WORDS: Final = {
    "list": "list",
    "post": "create",
    "deletecollection": "delete",
    "get": "read",
    "put": "replace",
    "patch": "patch",
    "delete": "delete",
}


def _group_words(group: str) -> list[str]:
    return group.removesuffix(".k8s.io").split(".") if group else ["core"]


def _named(action: _Action, resource: Resource, subresource: str = "", *, everywhere: bool = False) -> _Action:
    """With the names of the published documents (`apiserver/pkg/endpoints/openapi`)."""
    words = _group_words(resource.group)
    group = "".join(word[:1].upper() + word[1:] for word in words)
    place = "Namespaced" if resource.namespaced and not everywhere else ""
    many = "Collection" if action.action == "deletecollection" else ""
    sub = "".join(word[:1].upper() + word[1:] for word in subresource.split("/"))
    kind = f"{place}{resource.kind}{sub}{'ForAllNamespaces' if everywhere else ''}"
    version = resource.version[:1].upper() + resource.version[1:]
    tag = words[0] + "".join(word[:1].upper() + word[1:] for word in words[1:])
    name = f"{_VERB_WORDS[action.action]}{group}{version}{many}{kind}"
    return action._replace(id=name, tag=f"{tag}_{resource.version}")


_ITEM_METHODS: Final = {"get": "get", "update": "put", "patch": "patch", "delete": "delete", "create": "post"}


def _collection_actions(resource: Resource) -> list[_Action]:
    gvk = _gvk(resource.group, resource.version, resource.kind)
    actions: list[_Action] = []
    if "list" in resource.verbs:
        actions.append(_Action("get", "list", _LIST_PARAMETERS, "", f"{resource.schema}List", gvk))
    if "create" in resource.verbs:
        actions.append(_Action("post", "post", _WRITE_PARAMETERS, resource.schema, resource.schema, gvk))
    if "deletecollection" in resource.verbs:
        actions.append(_Action("delete", "deletecollection", _DELETE_PARAMETERS, _DELETE_OPTIONS, _STATUS, gvk))
    return actions


def _item_action(verb: str, schema: str, gvk: Object) -> _Action:
    method = _ITEM_METHODS[verb]
    if verb == "delete":
        return _Action(method, "delete", _DELETE_PARAMETERS, _DELETE_OPTIONS, schema, gvk)
    if verb == "patch":
        return _Action(method, "patch", (*_WRITE_PARAMETERS, "force"), "", schema, gvk)
    if verb == "get":
        return _Action(method, "get", (), "", schema, gvk)
    return _Action(method, method, _WRITE_PARAMETERS, schema, schema, gvk)


def _paths(resource: Resource, schemas: Schemas) -> dict[str, list[_Action]]:
    """Every path of a resource with its operations."""
    collection = _collection_path(resource)
    gvk = _gvk(resource.group, resource.version, resource.kind)
    paths = {collection: [_named(action, resource) for action in _collection_actions(resource)]}
    if resource.namespaced and "list" in resource.verbs:
        everything = [_named(a, resource, everywhere=True) for a in _collection_actions(resource) if a.action == "list"]
        paths[f"{_base_path(resource)}/{resource.plural}"] = everything
    item = [verb for verb in ("get", "update", "delete", "patch") if verb in resource.verbs]
    if item:
        actions = [_item_action(verb, resource.schema, gvk) for verb in item]
        paths[f"{collection}/{{name}}"] = [_named(action, resource) for action in actions]
    for name in subresources_of(resource):
        group, version, kind = subresource_kind(resource, name)
        group, version = (group, version) if group else (resource.group, resource.version)
        schema = schemas.definition_of(group, version, kind) or resource.schema
        actions = [_item_action(verb, schema, _gvk(group, version, kind)) for verb in subresource_verbs(name)]
        paths[f"{collection}/{{name}}/{name}"] = [_named(action, resource, name) for action in actions]
    return paths


class OpenApi:
    """The OpenAPI documents of a set of resources."""

    def __init__(self, resources: Iterable[Resource], schemas: Schemas) -> None:
        self._schemas = schemas
        self._versions: dict[str, list[Resource]] = {}
        for resource in resources:
            self._versions.setdefault(_base_path(resource)[1:], []).append(resource)
        self._built: dict[str, Answer] = {}

    def respond(self, path: str, accept: str = "", wanted: str = "") -> Answer | None:
        """The answer for `/openapi/...`; None where there is no such document.

        With the hash that is `wanted` (the index names it) the document is one that never changes; with an outdated
        one the answer leads to the present one.
        """
        if path.rstrip("/") == "/openapi/v2":
            return self._v2(accept)
        if path.rstrip("/") == "/openapi/v3":
            return self._answer("index", lambda: orjson.dumps({"paths": self._index()}), _INDEX_TYPE)
        version = path.removeprefix("/openapi/v3/")
        resources = self._versions.get(version)
        if resources is None or version == path:
            return None
        present = self._hash(resources) if wanted else ""
        if wanted != present:
            return Answer(301, b"", "text/html; charset=utf-8", (("Location", self._url(version, resources)),))
        answer = self._answer(version, lambda: orjson.dumps(self._document(resources)), etag=self._hash(resources))
        return answer._replace(headers=(*answer.headers, _FOR_EVER)) if wanted else answer

    def _answer(self, key: str, build: Callable[[], bytes], content_type: str = JSON, etag: str = "") -> Answer:
        answer = self._built.get(key)
        if answer is None:
            body = build()
            etag = etag or hashlib.sha512(body).hexdigest().upper()
            answer = Answer(200, body, content_type, (("ETag", f'"{etag}"'), ("Vary", "Accept")))
            self._built[key] = answer
        return answer

    def _index(self) -> Object:
        versions = sorted(self._versions.items())
        return {version: {"serverRelativeURL": self._url(version, resources)} for version, resources in versions}

    def _url(self, version: str, resources: Sequence[Resource]) -> str:
        return f"/openapi/v3/{version}?hash={self._hash(resources)}"

    def _hash(self, resources: Sequence[Resource]) -> str:
        """Changes with what the document is made of, without making it."""
        digest = hashlib.sha512(VERSION.encode())
        for resource in resources:
            digest.update(f"{resource.plural} {resource.kind} {sorted(resource.verbs)}".encode())
            digest.update(self._schemas.packed(resource.schema))
        return digest.hexdigest().upper()

    def _document(self, resources: Sequence[Resource]) -> Object:
        writer = _Writer(self._schemas, _V3, Descriptions.load())
        names = {resource.schema for resource in resources}
        paths: Object = {}
        for resource in resources:
            for path, actions in _paths(resource, self._schemas).items():
                operations = {action.method: self._operation(action, resource, writer) for action in actions}
                paths[path] = {**operations, "parameters": [_in_path(name, _V3_STRING) for name in _variables(path)]}
                names.update(name for action in actions for name in (action.body, action.answer) if name)
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": VERSION},
            "paths": paths,
            "components": {"schemas": writer.closure(names)},
        }

    def _operation(self, action: _Action, resource: Resource, writer: _Writer) -> Object:
        answer = writer.reference(action.answer) if action.answer in self._schemas else {"type": "object"}
        operation: Object = {
            "operationId": action.id,
            "tags": [action.tag],
            "parameters": [_parameter(name) for name in action.parameters],
            "responses": _responses(action, {"content": {JSON: {"schema": answer}}}),
            "x-kubernetes-action": action.action,
            "x-kubernetes-group-version-kind": action.gvk,
        }
        if action.action == "patch":
            accepted = [name for name in _PATCH_TYPES if name != _STRATEGIC or not resource.custom]
            operation["requestBody"] = {"content": {name: {"schema": {"type": "object"}} for name in accepted}}
        elif action.body:
            operation["requestBody"] = {"content": {"*/*": {"schema": writer.reference(action.body)}}}
        return operation

    # Version 2

    def _v2(self, accept: str) -> Answer:
        if "proto-openapi" in accept:
            return self._answer("v2.pb", self._v2_protobuf, V2_PROTOBUF)
        return self._answer("v2", lambda: orjson.dumps(self._swagger()))

    def _swagger(self) -> Object:
        paths = {
            path: {
                **{action.method: self._v2_operation(action) for action in actions},
                "parameters": [_in_path(name, _V2_STRING) for name in _variables(path)],
            }
            for path, actions in self._v2_paths()
        }
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": VERSION},
            "paths": paths,
            "definitions": self._v2_definitions(),
        }

    def _v2_operation(self, action: _Action) -> Object:
        answer = {"$ref": _V2.reference + action.answer} if action.answer in self._schemas else {"type": "object"}
        body = {"$ref": _V2.reference + action.body} if action.body else {"type": "object"}
        parameters: list[Object] = [
            {"name": name, "in": "query", "type": _PARAMETER_TYPES.get(name, "string"), "uniqueItems": True}
            for name in action.parameters
        ]
        if action.body or action.action == "patch":
            parameters.append({"name": "body", "in": "body", "required": action.method != "delete", "schema": body})
        return {
            "operationId": action.id,
            "tags": [action.tag],
            "schemes": ["https"],
            "consumes": list(_PATCH_TYPES) if action.action == "patch" else ["*/*"],
            "produces": [JSON],
            "parameters": parameters,
            "responses": _responses(action, {"schema": answer}),
            "x-kubernetes-action": action.action,
            "x-kubernetes-group-version-kind": action.gvk,
        }

    def _v2_paths(self) -> list[tuple[str, list[_Action]]]:
        resources = [resource for group in self._versions.values() for resource in group]
        return sorted(item for resource in resources for item in _paths(resource, self._schemas).items())

    def _v2_definitions(self) -> Object:
        writer = _Writer(self._schemas, _V2, Descriptions.load())
        names = {resource.schema for group in self._versions.values() for resource in group}
        used = {name for _, actions in self._v2_paths() for a in actions for name in (a.body, a.answer) if name}
        return writer.closure({*names, *used, _DELETE_OPTIONS, _STATUS})

    def _v2_protobuf(self) -> bytes:
        info = _message(2, _string(1, "Kubernetes") + _string(2, VERSION))
        paths = b"".join(
            _message(2, _string(1, path) + _message(2, _path_item(acts))) for path, acts in self._v2_paths()
        )
        definitions = b"".join(
            _message(1, _string(1, name) + _message(2, _schema_message(schema)))
            for name, schema in self._v2_definitions().items()
        )
        return _string(1, "2.0") + info + _message(8, paths) + _message(9, definitions)


_V2_STRING: Final = {"type": "string", "uniqueItems": True}
_V3_STRING: Final = {"schema": _V2_STRING}


def _variables(path: str) -> list[str]:
    """The names in braces."""
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _in_path(name: str, shape: Object) -> Object:
    return {"name": name, "in": "path", "required": True, **shape}


def _parameter(name: str) -> Object:
    schema = {"type": _PARAMETER_TYPES.get(name, "string"), "uniqueItems": True}
    return {"name": name, "in": "query", "schema": schema}


_CREATED: Final = frozenset({"post", "put", "patch"})


def _responses(action: _Action, content: Object) -> Object:
    created = {"201": {"description": "Created", **content}} if action.method in _CREATED else {}
    return {"200": {"description": "OK", **content}, **created, "401": {"description": "Unauthorized"}}


# gnostic's openapi.v2.Document: the field numbers are those of OpenAPIv2.proto.

_OPERATION_NUMBERS: Final = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _string(number: int, text: str) -> bytes:
    return _message(number, text.encode())


def _yaml_any(value: Any) -> bytes:
    """An `Any` holding YAML text; JSON is YAML."""
    return _string(2, orjson.dumps(value).decode() + "\n")


def _extension(number: int, name: str, value: Any) -> bytes:
    return _message(number, _string(1, name) + _message(2, _yaml_any(value)))


def _path_item(actions: Sequence[_Action]) -> bytes:
    return b"".join(_message(_OPERATION_NUMBERS[action.method], _operation_message(action)) for action in actions)


def _operation_message(action: _Action) -> bytes:
    parameters = b"".join(_message(8, _query_parameter(name)) for name in action.parameters)
    described = _message(1, _string(1, "OK"))
    responses = _message(9, _message(1, _string(1, "200") + _message(2, described)))
    gvk = _extension(13, "x-kubernetes-group-version-kind", action.gvk)
    return parameters + responses + _extension(13, "x-kubernetes-action", action.action) + gvk


def _query_parameter(name: str) -> bytes:
    """ParametersItem{parameter: Parameter{non_body_parameter: NonBodyParameter{query_parameter_sub_schema}}}."""
    parameter = _string(2, "query") + _string(4, name) + _string(6, _PARAMETER_TYPES.get(name, "string"))
    return _message(1, _message(2, _message(3, parameter)))


_SCHEMA_STRINGS: Final = (("$ref", 1), ("format", 2), ("description", 4))


def _schema_message(schema: Object) -> bytes:
    result = b"".join(_string(number, schema[key]) for key, number in _SCHEMA_STRINGS if key in schema)
    result += b"".join(_string(19, name) for name in schema.get("required", ()))
    result += b"".join(_message(20, _yaml_any(value)) for value in schema.get("enum", ()))
    if isinstance(schema.get("additionalProperties"), dict):
        result += _message(21, _message(1, _schema_message(schema["additionalProperties"])))
    if "type" in schema:
        result += _message(22, _string(1, schema["type"]))
    if isinstance(schema.get("items"), dict):
        result += _message(23, _message(1, _schema_message(schema["items"])))
    if schema.get("properties"):
        properties = cast("dict[str, Object]", schema["properties"])
        named = (_message(1, _string(1, key) + _message(2, _schema_message(item))) for key, item in properties.items())
        result += _message(25, b"".join(named))
    extensions = ((key, value) for key, value in schema.items() if key.startswith("x-"))
    return result + b"".join(_extension(31, key, value) for key, value in extensions)
