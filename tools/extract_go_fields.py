"""Writes `tools/go_fields.json`: what only Kubernetes' Go types know about their JSON fields.

An OpenAPI document does not tell a pointer from a value, nor whether an empty value is written at all, nor the
Go type that a decoding error names, nor the protobuf number. The struct tags in the public Go modules do. This
script reads those facts (and no prose) out of checkouts of one release:

    python tools/extract_go_fields.py k8s.io/api=DIR k8s.io/apimachinery=DIR ...

For each struct, under its OpenAPI name, a list of `[json name, Go type, protobuf path, flags]`. Embedded structs
are flattened as encoding/json does, which makes the protobuf path longer than one number. Flags: `*` pointer,
`o` omitempty, `z` omitzero, `r` packed into a message of its own (`type Verbs []string`). A fifth element is the
default that a `+default=` marker gives to the OpenAPI document.

Into `tools/go_enums.json` goes, for each struct, which fields have a type marked `+enum`, and its values.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

FILE = re.compile(r"types.*\.go|watch\.go|group_version\.go")
STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.M | re.S)
ALIAS = re.compile(r"^type (\w+) (?:= )?(\w+\.\w+)$", re.M)
NULLABLE = re.compile(r"^// \+protobuf\.nullable=true\n(?:// .*\n)*\n?(?:// .*\n)*type (\w+) ", re.M)
IMPORT = re.compile(r'^(?:import )?\s*(?:(\w+) )?"([\w./-]+)"', re.M)
FIELD = re.compile(r"^((?:\t//.*\n)*)\t(?:(\w+)\s+)?([*\[\]\w.]+)\s+`([^`]*)`", re.M)
ENUM = re.compile(r"^// \+enum\n(?://.*\n)*type (\w+) string", re.M)
CONSTANT = re.compile(r"^\t\w+\s+(\w+)\s*=\s*\"([^\"]*)\"", re.M)
DEFAULT = re.compile(r"// \+default=(\S+)")
MODULES = {
    "k8s.io/api": "io.k8s.api",
    "k8s.io/apimachinery": "io.k8s.apimachinery",
    "k8s.io/apiextensions-apiserver": "io.k8s.apiextensions-apiserver",
    "k8s.io/kube-aggregator": "io.k8s.kube-aggregator",
}

Row = list[object]


@dataclass
class Field:
    name: str
    go_type: str
    number: int | None
    flags: str
    embedded: str = ""
    """The struct (as `import/path.Name`) whose fields appear in place of this one."""
    default: object = None
    """Of a `+default=` marker."""
    element: str = ""
    """The full name of the type, of a list or map that of what is in it."""


@dataclass
class Facts:
    structs: dict[str, list[Field]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    enums: dict[str, list[str]] = field(default_factory=dict)
    messages: set[str] = field(default_factory=set)
    """Named slices that protobuf wraps into a message."""


def package_name(path: str) -> str:
    return path.rsplit("/", 1)[1]


def go_type_text(text: str, package: str, imports: dict[str, str]) -> str:
    """The type as Go prints it at run time: each name behind the name of its package."""

    def name(match: re.Match[str]) -> str:
        alias, dot, ident = match.group(0).rpartition(".")
        if dot:
            return f"{package_name(imports.get(alias, alias if '/' in alias else '/' + alias))}.{ident}"
        return f"{package}.{ident}" if ident[0].isupper() else ident

    return re.sub(r"(?:\w+\.)?\w+", name, text.replace("*", "").replace("[]byte", "[]uint8"))


def full_name(text: str, path: str, imports: dict[str, str]) -> str:
    alias, dot, ident = text.strip("*[]").rpartition(".")
    return f"{imports[alias] if dot else path}.{ident}"


def read_field(match: re.Match[str], path: str, imports: dict[str, str]) -> Field | None:
    comment, _, go_type, tags = match.groups()
    tag = re.search(r'json:"([^"]*)"', tags)
    if tag is None or tag.group(1) == "-":
        return None
    name, *options = tag.group(1).split(",")
    number = re.search(r'protobuf:"\w+,(\d+)', tags)
    flags = ("*" if go_type.startswith("*") else "") + ("o" if "omitempty" in options else "")
    flags += "z" if "omitzero" in options else ""
    default = DEFAULT.search(comment)
    return Field(
        name,
        go_type_text(go_type, package_name(path), imports),
        int(number.group(1)) if number else None,
        flags,
        "" if name else full_name(go_type, path, imports),
        json.loads(default.group(1)) if default and default.group(1)[0] in '"0123456789tf' else None,
        element_name(go_type, path, imports),
    )


def element_name(go_type: str, path: str, imports: dict[str, str]) -> str:
    alias, dot, ident = go_type.rpartition("]")[2].lstrip("*").rpartition(".")
    return f"{imports.get(alias, alias) if dot else path}.{ident}"


def read_file(file: Path, path: str, facts: Facts) -> None:
    text = file.read_text()
    imports = {alias or package_name("/" + target): target for alias, target in IMPORT.findall(text)}
    for name, body in STRUCT.findall(text):
        fields = [read_field(match, path, imports) for match in FIELD.finditer(body)]
        facts.structs[f"{path}.{name}"] = [found for found in fields if found]
    marked = set(ENUM.findall(text))
    for name, value in CONSTANT.findall(text):
        if name in marked:
            facts.enums.setdefault(f"{path}.{name}", []).append(value)
    for name, target in ALIAS.findall(text):
        facts.aliases[f"{path}.{name}"] = full_name(target, path, imports)
    facts.messages.update(f"{package_name(path)}.{name}" for name in NULLABLE.findall(text))


def flatten(name: str, facts: Facts) -> list[Row]:
    rows: list[Row] = []
    for entry in facts.structs.get(facts.aliases.get(name, name), []):
        if not entry.embedded:
            flags = entry.flags + ("r" if entry.go_type.rpartition("]")[2] in facts.messages else "")
            row: Row = [entry.name, entry.go_type, [entry.number] if entry.number else [], flags]
            rows.append(row if entry.default is None else [*row, entry.default])
            continue
        for child, go_type, numbers, *rest in flatten(entry.embedded, facts):
            assert isinstance(numbers, list)
            rows.append([child, go_type, [entry.number, *numbers] if entry.number and numbers else [], *rest])
    return rows


def enums_of(name: str, facts: Facts) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in facts.structs.get(facts.aliases.get(name, name), []):
        if entry.embedded:
            found |= enums_of(entry.embedded, facts)
        elif entry.element in facts.enums:
            found[entry.name] = sorted(set(facts.enums[entry.element]))
    return found


def open_api_name(name: str) -> str:
    path, _, ident = name.rpartition(".")
    module = next(module for module in MODULES if path.startswith(module + "/"))
    return MODULES[module] + path[len(module) :].replace("/", ".") + "." + ident


def main(arguments: list[str]) -> None:
    facts = Facts()
    for module, _, root in (argument.partition("=") for argument in arguments):
        for file in sorted(Path(root).rglob("*.go")):
            if FILE.fullmatch(file.name) and "test" not in str(file.relative_to(root)):
                read_file(file, f"{module}/{file.parent.relative_to(root)}", facts)
    table = {open_api_name(name): flatten(name, facts) for name in sorted({*facts.structs, *facts.aliases})}
    lines = [f"{json.dumps(name)}: {json.dumps(rows, separators=(',', ':'))}" for name, rows in table.items() if rows]
    (Path(__file__).parent / "go_fields.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    enums = {open_api_name(name): enums_of(name, facts) for name in sorted({*facts.structs, *facts.aliases})}
    valued = [f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in enums.items() if fields]
    (Path(__file__).parent / "go_enums.json").write_text("{\n" + ",\n".join(valued) + "\n}\n")
    print(f"{len(lines)} structs, {sum(map(len, table.values()))} fields, {len(valued)} structs with enums")


if __name__ == "__main__":
    main(sys.argv[1:])
