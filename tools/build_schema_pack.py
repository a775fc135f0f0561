"""Builds `src/podling/api/data/schema_pack.zlib`, the shapes of all served types. Run it with `make schema-pack`.

Two sources, neither complete alone:

* the OpenAPI definitions in the PyPI package `kubernetes-validate` (types, references, list types and their keys,
  merge keys, required fields, group-version-kinds); its JSON-Schema dialect is undone here;
* `tools/go_fields.json` (see `extract_go_fields.py`): pointers, omitempty, Go type names, protobuf numbers; and
  `tools/go_enums.json`: the values that fields may have, which that package lacks.

Only facts are kept, no descriptions. The pack is one line for each definition, `name TAB json`, so that a reader
finds one without parsing the others. In it a property is an OpenAPI schema whose `$ref` is a bare definition name,
plus `go: [type, protobuf path, flags]`.
"""

from __future__ import annotations

import json
import sys
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any

MINOR = "v1.36.0"
ROOT = Path(__file__).parent
PACK = ROOT.parent / "src" / "podling" / "api" / "data" / "schema_pack.zlib"

SPECIAL: dict[str, dict[str, Any]] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"format": "int-or-string"},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"format": "quantity"},
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": {"type": "string", "format": "date-time"},
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": {"type": "string", "format": "micro-time"},
    "io.k8s.apimachinery.pkg.apis.meta.v1.Duration": {"type": "string", "format": "duration"},
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": {"format": "any-object"},
    "io.k8s.apimachinery.pkg.runtime.RawExtension": {"format": "any-object"},
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": {"format": "any"},
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": {"format": "schema-or-array"},
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": {"format": "schema-or-bool"},
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": {
        "format": "schema-or-strings"
    },
}
"""Types with their own JSON and protobuf encoding."""

DROPPED = {"description", "$schema"}


def plain(schema: Any) -> Any:
    """An OpenAPI schema from the package's JSON Schema: one type, no null, bare references, no prose."""
    if isinstance(schema, list):
        return [plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in DROPPED:
            continue
        if key == "type" and isinstance(value, list):
            result[key] = next(item for item in value if item != "null")
        elif key == "$ref":
            result[key] = value.rsplit("/", 1)[1]
        elif key == "enum":
            result[key] = [item for item in value if item is not None]
        elif key == "properties":
            result[key] = {name: plain(child) for name, child in value.items()}
        else:
            result[key] = plain(value)
    return result


def with_enum(schema: dict[str, Any], values: list[str]) -> None:
    """Notes the values at the type that has them: of lists and maps, at what is in them."""
    inner = schema
    for key in ("items", "additionalProperties"):
        inner = schema[key] if isinstance(schema.get(key), dict) else inner
    inner["enum"] = values


def definition(
    name: str, schema: dict[str, Any], go_fields: dict[str, list[list[Any]]], enums: dict[str, list[str]]
) -> dict[str, Any]:
    if name in SPECIAL:
        return SPECIAL[name]
    result = plain(schema)
    properties = result.get("properties", {})
    rows = {row[0]: row[1:] for row in go_fields.get(name, [])}
    for field, child in properties.items():
        if field in rows:
            child["go"] = rows[field][:3]
            if len(rows[field]) > 3:
                child["default"] = rows[field][3]
        if field in {"kind", "apiVersion"}:
            child.pop("enum", None)
        if field in enums:
            with_enum(child, enums[field])
    if rows:
        order = {field: index for index, field in enumerate(rows)}
        result["properties"] = dict(sorted(properties.items(), key=lambda item: order.get(item[0], len(order))))
    return result


def source() -> dict[str, Any]:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"{MINOR}-local"
    return json.loads((folder / "_definitions.json").read_bytes())["$defs"]


def main() -> int:
    go_fields = json.loads((ROOT / "go_fields.json").read_bytes())
    enums = json.loads((ROOT / "go_enums.json").read_bytes())
    lines = [
        f"{name}\t{json.dumps(definition(name, schema, go_fields, enums.get(name, {})), separators=(',', ':'))}"
        for name, schema in sorted(source().items())
    ]
    text = "\n".join(lines).encode()
    PACK.parent.mkdir(exist_ok=True)
    PACK.write_bytes(zlib.compress(text, 9))
    print(f"{len(lines)} definitions, {len(text)} bytes, {PACK.stat().st_size} compressed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
