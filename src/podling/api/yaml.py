"""YAML as Kubernetes reads it: sigs.k8s.io/yaml, which turns YAML 1.1 (go-yaml v2) into JSON first.

PyYAML's own resolvers differ where it matters: Kubernetes takes `y` and `on` for booleans and `010` for 8, but
leaves dates and `1:30` strings, and reads `1e3` as a number. So the C parser only composes nodes here, and the
scalars are resolved by go-yaml's rules. Mapping keys become strings, the last of equal keys wins (and is reported),
and only the first document counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

import orjson
import yaml
from yaml.composer import ComposerError
from yaml.scanner import ScannerError

from podling.api import gojson

MAX_DEPTH: Final = gojson.MAX_DEPTH
"""Nesting beyond this is refused: no manifest has it, and both parser and walkers recurse."""
MAX_NODES: Final = 1_000_000
"""Values after aliases are expanded; more is an attack (a "billion laughs")."""

_DEPTH_CHECK_FROM: Final = 2 * MAX_DEPTH
_EXCEEDED: Final = "yaml: exceeded max depth"
_TOO_DEEP: Final = "exceeded maximum nesting depth"
"""What libyaml says since it has a limit (1,000, beyond ours) of its own."""

_BOOLEANS: Final = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_INFINITIES: Final = {
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_FLOAT = re.compile(r"[-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(\d+))", re.ASCII)

_BITS: Final = 64
"""No integer that fits has more digits, whatever its base."""

_TAG: Final = "tag:yaml.org,2002:"

_UNLIKE_YAML = re.compile(rb"[:\[,]\s*-?\d+[.eE]")
"""What of JSON YAML reads otherwise, besides escapes and tabs: numbers that end as whole ones."""


class YamlError(ValueError):
    """The text is no YAML (or none that JSON can hold); the message is go-yaml's."""


@dataclass(slots=True)
class Document:
    """What was read, and each repeated mapping key as strict decoding reports it."""

    value: Any
    repeated: list[str] = field(default_factory=list[str])


_PLAIN: Final = "?"
"""The tag of a plain scalar without one of its own: what it is, its text must tell."""
_QUOTED: Final = "!"


class _Loader(yaml.CBaseLoader):
    """Composes nodes; resolves nothing."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _QUOTED
        return _QUOTED


def load(text: bytes | str) -> Document:
    """The first document. Raises YamlError."""
    if isinstance(text, bytes) and text.startswith(b"{"):
        value = _plain_json(text)
        if value is not None:
            return Document(value)
    try:
        if len(text) > _DEPTH_CHECK_FROM:
            _check_depth(text)
        loader = _Loader(text)
        try:
            root: yaml.Node | None = None
            if loader.check_node():
                root = loader.get_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise YamlError(_go_error(error, text)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise YamlError(f"yaml: {error}") from None
    if root is None:
        return Document(None)
    reader = _Reader()
    return Document(reader.read(root), reader.repeated)


def _plain_json(text: bytes) -> Any:
    """The value of the JSON that programs send as YAML, twenty times as fast; None to read it as YAML after all."""
    if b"\\" in text or b"\t" in text or text.count(b"{") + text.count(b"[") > MAX_DEPTH:
        return None
    if _UNLIKE_YAML.search(text) is not None:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    repeats_keys = text.count(b'"') != orjson.dumps(value).count(b'"')
    return None if repeats_keys else value


def _check_depth(text: bytes | str) -> None:
    """The composer recurses in C, where nothing would catch an overflow; the event parser does not."""
    depth = 0
    events = cast("Iterator[yaml.Event]", yaml.parse(text, Loader=_Loader))  # pyright: ignore[reportUnknownMemberType]
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise YamlError(_EXCEEDED)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentEndEvent):
            return


def _go_error(error: yaml.MarkedYAMLError, text: bytes | str) -> str:
    """go-yaml's wording: libyaml's problem behind a line, counted as libyaml does (from 0, 1 later in the scanner)."""
    if error.problem == _TOO_DEEP:
        return _EXCEEDED
    if isinstance(error, ComposerError) and error.problem_mark is not None:
        source = text.decode() if isinstance(text, bytes) else text
        name = re.match(r"\*?([\w-]+)", source[error.problem_mark.index :])
        return f"yaml: unknown anchor '{name[1] if name else ''}' referenced"
    marks = (error.context_mark, error.problem_mark)
    line = next((mark.line for mark in marks if mark is not None and mark.line), 0)
    if line and isinstance(error, ScannerError):
        line += 1
    place = f"line {line}: " if line else ""
    return f"yaml: {place}{error.problem}"


class _Reader:
    """Turns nodes into JSON values."""

    def __init__(self) -> None:
        self.repeated: list[str] = []
        self._nodes = 0
        self._open: set[int] = set()

    def read(self, node: yaml.Node) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise YamlError("yaml: document contains excessive aliasing")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self._open:
            raise YamlError("yaml: anchor value contains itself")
        self._open.add(id(node))
        result = self._mapping(node) if isinstance(node, yaml.MappingNode) else self._sequence(node)
        self._open.discard(id(node))
        return result

    def _sequence(self, node: yaml.Node) -> list[Any]:
        return [self.read(item) for item in cast("list[yaml.Node]", node.value)]

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        result: dict[str, Any] = {}
        for key_node, value_node in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            if isinstance(key_node, yaml.ScalarNode) and _is_merge(key_node):
                self._merge(merged, value_node)
                continue
            name = _key(self.read(key_node))
            if name in result:
                line = key_node.start_mark.line + 1
                self.repeated.append(f'line {line}: key "{name}" already set in map')
            result[name] = self.read(value_node)
        return {**merged, **result} if merged else result

    def _merge(self, merged: dict[str, Any], node: yaml.Node) -> None:
        sources = cast("list[yaml.Node]", node.value) if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise YamlError("yaml: map merge requires map or sequence of maps as the value")
            for name, value in self._mapping(source).items():
                merged.setdefault(name, value)


def _is_merge(node: yaml.ScalarNode) -> bool:
    return node.value == "<<" and node.tag == _PLAIN


def _key(value: Any) -> str:
    """Keys as sigs.k8s.io/yaml writes them into JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise YamlError(f"unsupported map key of type: {'nil' if value is None else type(value).__name__}")


def _scalar(node: yaml.ScalarNode) -> Any:
    text = cast(str, node.value)
    tag = node.tag or ""
    if tag == _PLAIN:
        return _plain(text)
    return _tagged(text, tag.removeprefix(_TAG)) if tag.startswith(_TAG) else text


def _tagged(text: str, tag: str) -> Any:
    value = _plain(text)
    wanted = {"int": int, "float": float, "bool": bool, "null": type(None)}.get(tag)
    if wanted is None:
        return text
    if tag == "float" and isinstance(value, int):
        return value
    if not isinstance(value, wanted):
        raise YamlError(f"yaml: cannot decode !!str `{text}` as a !!{tag}")
    return value


def _plain(text: str) -> Any:
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] not in "+-.0123456789":
        return text
    if text in _INFINITIES:
        raise YamlError(f"json: unsupported value: {_INFINITIES[text]}")
    bare = text.replace("_", "")
    integer = _INTEGER.fullmatch(bare)
    value = _integer(integer) if integer is not None else None
    if value is None and _FLOAT.fullmatch(bare):
        value = _json_number(float(bare))
    return text if value is None else value


def _integer(match: re.Match[str]) -> int | None:
    """None where 64 bits cannot hold it: go-yaml then tries it as a float, which only decimal digits can be."""
    sign, hexadecimal, binary, octal, decimal = match.groups()
    for digits, base in ((hexadecimal, 16), (binary, 2), (octal, 8), (decimal, 10)):
        if digits is not None and len(digits.lstrip("0")) <= _BITS:
            value = int(sign + digits, base)
            return value if -(2**63) <= value < 2**64 else None
    return None


def _json_number(value: float) -> int | float | None:
    """A whole number loses its fraction on the way through JSON: `1e3` is 1000. None for what is beyond a float."""
    if math.isinf(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2.0**63 else value
