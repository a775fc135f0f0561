"""The shapes of objects: what each field is, how lists and maps merge, what Go writes when a field is empty.

Patches, server-side apply, decoding, protobuf and OpenAPI all ask the same question of a field. They ask it of a
`Node`, compiled on demand and kept: loading the shipped pack only splits it into lines (one definition each), so a
start costs about a millisecond and a cluster that never sees a CSIDriver never compiles one.

The pack (`data/schema_pack.zlib`, built by `tools/build_schema_pack.py`) joins the published OpenAPI definitions with
what only the Go types know: pointers, omitempty, Go type names, protobuf numbers. A `Node` can also come from the
OpenAPI v3 schema of a custom resource, which has none of the latter.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

import orjson

from podling.store.types import Object

PACK = Path(__file__).parent / "data" / "schema_pack.zlib"


_RAW_EXTENSION: Final = "io.k8s.apimachinery.pkg.runtime.RawExtension"
"""Owned and replaced as a whole, whatever is in it."""


class Kind(StrEnum):
    """What a value is, as far as merging and decoding care."""

    STRUCT = "struct"
    MAP = "map"
    LIST = "list"
    STRING = "string"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    BYTES = "bytes"
    QUANTITY = "quantity"
    INT_OR_STRING = "int-or-string"
    TIME = "date-time"
    MICRO_TIME = "micro-time"
    DURATION = "duration"
    ANY = "any"
    """Anything: what is not declared, `RawExtension`, a custom resource's preserved fields."""
    SCHEMA_OR_BOOL = "schema-or-bool"
    SCHEMA_OR_ARRAY = "schema-or-array"
    SCHEMA_OR_STRINGS = "schema-or-strings"


UNTYPED_SCALARS = frozenset({Kind.QUANTITY, Kind.INT_OR_STRING})
SCALARS = frozenset(
    {
        Kind.STRING,
        Kind.BOOLEAN,
        Kind.INTEGER,
        Kind.NUMBER,
        Kind.BYTES,
        Kind.TIME,
        Kind.MICRO_TIME,
        Kind.DURATION,
        *UNTYPED_SCALARS,
    }
)
NEVER_EMPTY = frozenset({Kind.STRUCT, Kind.TIME, Kind.MICRO_TIME, Kind.DURATION, Kind.QUANTITY, Kind.ANY})
"""Structs in Go, which omitempty never leaves out, whatever they hold."""

SCHEMA_UNIONS = frozenset({Kind.SCHEMA_OR_BOOL, Kind.SCHEMA_OR_ARRAY, Kind.SCHEMA_OR_STRINGS})

JSON_SCHEMA = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"

_FORMATS: Final = {
    "int-or-string": Kind.INT_OR_STRING,
    "quantity": Kind.QUANTITY,
    "date-time": Kind.TIME,
    "micro-time": Kind.MICRO_TIME,
    "duration": Kind.DURATION,
    "byte": Kind.BYTES,
    "any": Kind.ANY,
    "any-object": Kind.ANY,
    "schema-or-bool": Kind.SCHEMA_OR_BOOL,
    "schema-or-array": Kind.SCHEMA_OR_ARRAY,
    "schema-or-strings": Kind.SCHEMA_OR_STRINGS,
}
_TYPES: Final = {
    "string": Kind.STRING,
    "boolean": Kind.BOOLEAN,
    "integer": Kind.INTEGER,
    "number": Kind.NUMBER,
}


class Node:
    """The shape of one value. Immutable from outside; its parts are compiled when first asked for, and kept.

    `atomic` holds for lists, maps and structs that are owned and replaced as a whole. A list that is not atomic is
    associative: by `keys` (list-type map) or, when there are none, by the values themselves (list-type set).
    """

    def __init__(
        self,
        schemas: Schemas,
        kind: Kind,
        schema: Object,
        *,
        definition: str = "",
        go_type: str = "",
        atomic: bool = False,
        structural: bool = False,
    ) -> None:
        self._schemas = schemas
        self._schema = schema
        self.protobuf_layout: dict[int, Any] | None = None
        """Kept here by `podling.api.protobuf`: its fields by number."""
        self.kind = kind
        self.definition = definition
        """The OpenAPI name of a struct of its own; `""` for anything else."""
        self.go_type = go_type
        """As Go prints it: `v1.PodSpec`, `[]v1.Container`, `map[string]string`; `""` in a custom resource."""
        self.atomic = atomic
        self.leaf = atomic or kind in SCALARS
        """Whether it is owned as a whole."""
        self.structural = structural
        """Whether this is (a part of) a custom resource, whose values no Go struct normalises."""
        self.preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        self.bits = 32 if schema.get("format") == "int32" else 64
        self.keys: tuple[str, ...] = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        self.key_defaults: Object = {}
        if self.keys:
            fields = self.element.fields
            defaults = {key: fields[key].key_default for key in self.keys if key in fields}
            self.key_defaults = {key: value for key, value in defaults.items() if value is not None}

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """The declared fields of a struct, in Go's order; none for anything else."""
        required = frozenset(self._schema.get("required", ()))
        return {
            name: Field(self._schemas, name, schema, name in required, self.structural)
            for name, schema in self._schema.get("properties", {}).items()
        }

    @cached_property
    def element(self) -> Node:
        """The shape of a list's items or of a map's values; for `ANY`, of whatever is in it."""
        return self._schemas.compile_element(self, self._schema)

    @cached_property
    def written(self) -> tuple[Field, ...]:
        """The fields that Go writes even when they were never set; none in a custom resource."""
        fields = () if self.structural else self.fields.values()
        return tuple(field for field in fields if field.written_when_empty)

    @property
    def json_schema(self) -> Node:
        """The shape of a JSON schema, for the unions of schemas in a CustomResourceDefinition."""
        return self._schemas.node(JSON_SCHEMA)

    @cached_property
    def go_name(self) -> str:
        """The struct's name in decoding errors: `PodSpec`."""
        return self.go_type.rpartition(".")[2]

    @property
    def schema(self) -> Object:
        """The OpenAPI schema that this was compiled from. Shared: do not change it."""
        return self._schema

    def child(self, name: str) -> Node:
        """The shape of the value under `name`; of what is not declared nothing is known (`Kind.ANY`)."""
        field = self.fields.get(name)
        if field is not None:
            return field.node
        return self.element if self.kind is Kind.MAP else self._schemas.any

    def declares(self, name: str) -> bool:
        """Whether `name` is a field of the struct (and not a key of a map)."""
        return name in self.fields

    def __repr__(self) -> str:
        return f"<Node {self.kind} {self.definition or self.go_type}>"


_ZERO_KEYS: Final[dict[Kind, Any]] = {Kind.STRING: "", Kind.INTEGER: 0, Kind.BOOLEAN: False}


class Field:
    """A field of a struct: its shape, and how Go and the patch formats treat it."""

    def __init__(self, schemas: Schemas, name: str, schema: Object, required: bool, structural: bool) -> None:
        _, numbers, flags = schema.get("go", ("", (), "*o"))
        self._schemas = schemas
        self._structural = structural
        self.name = name
        self.schema = schema
        self.required = required
        self.default = schema.get("default")
        self.numbers: tuple[int, ...] = tuple(numbers)
        """Where protobuf has it: a path, longer than one number for fields of embedded structs."""
        self.pointer = "*" in flags
        self.omitempty = "o" in flags
        self.omitzero = "z" in flags
        self.wrapped = "r" in flags
        """Whether protobuf packs each list into a message of its own (`ExtraValue`, `Verbs`)."""
        self.merge_key: str | None = schema.get("x-kubernetes-patch-merge-key")
        strategies = str(schema.get("x-kubernetes-patch-strategy", "")).split(",")
        self.strategies = frozenset(strategy for strategy in strategies if strategy)

    @cached_property
    def node(self) -> Node:
        go_type = self.schema["go"][0] if "go" in self.schema else ""
        return self._schemas.compile(self.schema, go_type=go_type, structural=self._structural)

    @property
    def key_default(self) -> Any:
        """What an absent list key counts as: its default in the published documents, `None` for none."""
        if self.default is not None or self.pointer or self.omitempty:
            return self.default
        return _ZERO_KEYS.get(self.node.kind)

    @cached_property
    def written_when_empty(self) -> bool:
        if self.pointer or self.omitzero:
            return not (self.omitempty or self.omitzero)
        if self.node.kind is Kind.INT_OR_STRING:
            # Go writes 0 here; defaulting always replaces it, and rules are clearer about what is absent.
            return not self.omitempty
        return not self.omitempty or self.node.kind in NEVER_EMPTY

    def __repr__(self) -> str:
        return f"<Field {self.name}>"


def _go_type_of(definition: str) -> str:
    package, _, name = definition.rpartition(".")
    return f"{package.rpartition('.')[2]}.{name}"


def _element_go_type(go_type: str) -> str:
    if go_type.startswith("[]"):
        return go_type[2:]
    if go_type.startswith("map["):
        return go_type.partition("]")[2]
    return ""


def _is_atomic(schema: Object) -> bool:
    if schema.get("type") == "array":
        return schema.get("x-kubernetes-list-type", "atomic") == "atomic"
    return schema.get("x-kubernetes-map-type") == "atomic"


def _kind_of(schema: Object) -> Kind:
    if schema.get("x-kubernetes-int-or-string"):
        return Kind.INT_OR_STRING
    special = _FORMATS.get(schema.get("format", ""))
    if special is not None:
        return special
    kind = _TYPES.get(schema.get("type", ""))
    if kind is not None:
        return kind
    if schema.get("type") == "array":
        return Kind.LIST
    if schema.get("properties"):
        return Kind.STRUCT
    if isinstance(schema.get("additionalProperties"), dict):
        return Kind.MAP
    if schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        return Kind.STRUCT
    return Kind.ANY


def _structural_kind(schema: Object) -> Kind:
    """A custom resource's formats are for validation only: a `date-time` stays the string that it is."""
    if schema.get("type") in {"string", "integer", "number", "boolean"} and not schema.get(
        "x-kubernetes-int-or-string"
    ):
        return _TYPES[schema["type"]]
    return _kind_of(schema)


def _with_type_and_metadata(schema: Object) -> Object:
    """The schema of a whole (custom or embedded) resource."""
    properties: Object = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"$ref": "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},
        **{key: value for key, value in schema.get("properties", {}).items() if key not in _TYPE_AND_METADATA},
    }
    return {**schema, "type": "object", "properties": properties}


_TYPE_AND_METADATA: Final = frozenset({"apiVersion", "kind", "metadata"})


class Schemas:
    """All definitions that Kubernetes publishes, by OpenAPI name."""

    def __init__(self, lines: Mapping[str, bytes]) -> None:
        self._lines = lines
        self._raw: dict[str, Object] = {}
        self._nodes: dict[str, Node] = {}
        self._kinds: dict[tuple[str, str, str], str] | None = None
        self.any = Node(self, Kind.ANY, {})
        """The shape of what nothing is known about: maps merge, lists are atomic."""

    @classmethod
    def load(cls) -> Schemas:
        """Reads the shipped pack (about a millisecond)."""
        lines = zlib.decompress(PACK.read_bytes()).split(b"\n")
        split = (line.partition(b"\t") for line in lines)
        return cls({name.decode(): text for name, _, text in split})

    def __contains__(self, definition: object) -> bool:
        return definition in self._lines

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def packed(self, name: str) -> bytes:
        """The definition's text, for what only needs to know whether it changed; `b""` when there is none."""
        return self._lines.get(name, b"")

    def register(self, name: str, schema: Object, group: str, version: str, kind: str) -> None:
        """Adds (or replaces) the definition of a custom resource under a name of the caller's.

        `schema` is the CustomResourceDefinition's `openAPIV3Schema`; afterwards `node(name)` is its shape, and the
        OpenAPI documents show it.
        """
        whole = _with_type_and_metadata(schema)
        whole["x-kubernetes-group-version-kind"] = [{"group": group, "kind": kind, "version": version}]
        self._lines = {**self._lines, name: orjson.dumps(whole)}
        self._raw[name] = whole
        self._nodes[name] = self.compile(whole, structural=True)
        self._kinds = None

    def definition(self, name: str) -> Object:
        """The packed OpenAPI schema. Shared: do not change it. Raises KeyError."""
        found = self._raw.get(name)
        if found is None:
            found = self._raw[name] = cast(Object, orjson.loads(self._lines[name]))
        return found

    def node(self, definition: str) -> Node:
        """The shape of a definition (`io.k8s.api.apps.v1.Deployment`). Raises KeyError."""
        node = self._nodes.get(definition)
        if node is None:
            schema = self.definition(definition)
            node = Node(
                self,
                _kind_of(schema),
                schema,
                definition=definition,
                go_type=_go_type_of(definition),
                atomic=_is_atomic(schema) or definition == _RAW_EXTENSION,
            )
            self._nodes[definition] = node
        return node

    def custom(self, schema: Object) -> Node:
        """The shape of a custom resource, from `spec.versions[*].schema.openAPIV3Schema` (structural).

        `apiVersion`, `kind` and `metadata` are added as the API server does.
        """
        return self.compile(_with_type_and_metadata(schema), structural=True)

    def definition_of(self, group: str, version: str, kind: str) -> str | None:
        """The definition that a group-version-kind names."""
        if self._kinds is None:
            self._kinds = {
                (gvk["group"], gvk["version"], gvk["kind"]): name
                for name, line in self._lines.items()
                if b"x-kubernetes-group-version-kind" in line
                for gvk in self.definition(name)["x-kubernetes-group-version-kind"]
            }
        return self._kinds.get((group, version, kind))

    def compile(self, schema: Object, *, go_type: str = "", structural: bool = False) -> Node:
        """The shape of one schema; a bare `$ref` names a definition of this collection."""
        reference = schema.get("$ref")
        if structural and schema.get("x-kubernetes-embedded-resource"):
            schema = _with_type_and_metadata(schema)
        if reference is None:
            kind = _structural_kind(schema) if structural else _kind_of(schema)
            return Node(self, kind, schema, go_type=go_type, atomic=_is_atomic(schema), structural=structural)
        target = self.node(reference)
        own = schema.get("x-kubernetes-map-type")
        if own is not None and (own == "atomic") != target.atomic:
            atomic = own == "atomic"
            go_type = target.go_type
            return Node(self, target.kind, target.schema, definition=reference, go_type=go_type, atomic=atomic)
        return target

    def compile_element(self, parent: Node, schema: Object) -> Node:
        inner = schema.get("items") if parent.kind is Kind.LIST else schema.get("additionalProperties")
        if not isinstance(inner, dict):
            return self.any
        go_type = _element_go_type(parent.go_type)
        return self.compile(cast(Object, inner), go_type=go_type, structural=parent.structural)
