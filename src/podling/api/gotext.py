"""JSON values as Go's fmt prints them, and numbers as its strconv reads them: Kubernetes' messages show them so."""

from __future__ import annotations

from typing import Any, Final, cast

import orjson

from podling.store.types import Object


def plain(value: Any) -> str:
    """`%v`: `map[a:1 b:[x y]]`."""
    if isinstance(value, dict):
        members = cast(Object, value)
        return "map[" + " ".join(f"{key}:{plain(members[key])}" for key in sorted(members)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(plain, cast(list[Any], value))) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)


def text(value: Any) -> str:
    """`%s` of what should be a string."""
    if isinstance(value, str):
        return value
    return f"%!s({'<nil>' if value is None else f'{type_name(value)}={plain(value)}'})"


def syntax(value: Any) -> str:
    """`%#v`: `map[string]interface {}{"a":1}`."""
    if isinstance(value, dict):
        members = cast(Object, value)
        inner = ", ".join(f"{orjson.dumps(key).decode()}:{syntax(members[key])}" for key in sorted(members))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(value, list):
        return "[]interface {}{" + ", ".join(map(syntax, cast(list[Any], value))) + "}"
    return "interface {}(nil)" if value is None else orjson.dumps(value).decode()


_ESCAPES: Final = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_HTML: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def quoted(text: str) -> str:
    """`%q`: what can be printed stays as it is."""
    return '"' + "".join(map(_quoted_character, text)) + '"'


def _quoted_character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_text(value: Any, *, sort_keys: bool = False) -> str:
    """As encoding/json writes it: fit to stand in a web page. Of a map it sorts the keys."""
    return for_web(orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else 0).decode())


def for_web(text: str) -> str:
    """JSON with what encoding/json escapes, so that it may stand in a web page."""
    return text if _HTML.keys().isdisjoint(text) else "".join(_HTML.get(c, c) for c in text)


def type_name(value: Any) -> str:
    """The type of a value decoded without one: `%T`, and `%s` of `reflect.TypeOf`."""
    if value is None:
        return "%!s(<nil>)"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, str):
        return "string"
    return "[]interface {}" if isinstance(value, list) else "map[string]interface {}"


def label_selector(selector: Object | None) -> str:
    """`%v` of a `*LabelSelector`, which prints itself."""
    if selector is None:
        return "nil"
    labels = cast(Object, selector.get("matchLabels") or {})
    pairs = "".join(f"{key}: {labels[key]}," for key in sorted(labels))
    terms = "".join(_requirement(term) + "," for term in cast("list[Object]", selector.get("matchExpressions") or []))
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{pairs}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{terms}}},}}"
    )


def _requirement(term: Object) -> str:
    values = plain(term.get("values") or [])
    return f"LabelSelectorRequirement{{Key:{term['key']},Operator:{term['operator']},Values:{values},}}"


def parse_uint(text: str) -> int:
    """`strconv.ParseUint(text, 10, 64)`. Raises ValueError in its words."""
    return _parsed("ParseUint", text, "", text, 0, 1 << 64)


def parse_int(text: str) -> int:
    """`strconv.ParseInt(text, 10, 64)`. Raises ValueError in its words."""
    sign = text[:1] if text[:1] in ("+", "-") else ""
    return _parsed("ParseInt", text, sign, text[len(sign) :], -(1 << 63), 1 << 63)


_LONGEST_NUMBER: Final = len(str(1 << 64))


def _parsed(function: str, text: str, sign: str, digits: str, least: int, end: int) -> int:
    if not (digits.isascii() and digits.isdecimal()):
        raise ValueError(f"strconv.{function}: parsing {quoted(text)}: invalid syntax")
    significant = digits.lstrip("0") or "0"
    if len(significant) > _LONGEST_NUMBER or not least <= int(sign + significant) < end:
        raise ValueError(f"strconv.{function}: parsing {quoted(text)}: value out of range")
    return int(sign + significant)
