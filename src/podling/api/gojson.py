"""JSON text read with encoding/json's complaints, and with an eye for repeated keys.

orjson does the work; only what it refuses, or what may hold a key twice, is looked at again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final, cast

import orjson

from podling.api.structs import RepeatedKeys

END: Final = "unexpected end of JSON input"
TOO_DEEP: Final = "exceeded max depth"

MAX_DEPTH: Final = 200
"""Nesting beyond this is refused. Go reads 10,000 levels; orjson writes 254, a few of which answers need themselves."""

_LITERALS: Final = {"t": "true", "f": "false", "n": "null"}


class JsonError(ValueError):
    """The text is no JSON; the message is encoding/json's."""


def loads(text: bytes) -> Any:
    """Raises JsonError. What is no Unicode becomes U+FFFD, as in Go."""
    value = _loaded(text)
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and too_deep(value):
        raise JsonError(TOO_DEEP)
    return value


def too_deep(value: Any) -> bool:
    """Whether anything in the value lies under more than `MAX_DEPTH` objects and arrays."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [part for whole in level for part in _parts(whole)]
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast(dict[str, Any], value).values()
    return cast(list[Any], value) if isinstance(value, list) else ()


def _loaded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return _with_replacements(json.loads(text.decode(errors="replace"), parse_constant=_refuse, parse_int=_number))
    except (ValueError, RecursionError):
        raise JsonError(syntax_error(text)) from None


def _with_replacements(value: Any) -> Any:
    """Half surrogate pairs, which Python lets through, replaced."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        members = cast(dict[str, Any], value)
        replaced = {_with_replacements(key): _with_replacements(item) for key, item in members.items()}
        return members.renewed(replaced) if isinstance(members, RepeatedKeys) else replaced
    return [_with_replacements(item) for item in cast(list[Any], value)] if isinstance(value, list) else value


def loads_strict(text: bytes) -> Any:
    """As `loads`, but objects that repeat keys come as `RepeatedKeys`."""
    value = loads(text)
    written = orjson.dumps(value)
    if written == text:
        return value
    if b"\\u" not in text and text.count(b'"') == written.count(b'"'):
        # A key that was there twice would have taken its quotes with it (only `\\u0022` could stand for them).
        return value
    repetitions: list[RepeatedKeys] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        plain = dict(pairs)
        if len(plain) == len(pairs):
            return plain
        marked = RepeatedKeys(plain)
        marked.repeated = _repeated(name for name, _ in pairs)
        repetitions.append(marked)
        return marked

    try:
        marked = json.loads(text, object_pairs_hook=members, parse_int=_number)
    except (ValueError, RecursionError):
        return value
    return _with_replacements(marked) if repetitions else value


def _repeated(names: Iterable[str]) -> tuple[str, ...]:
    """Each name that was there before, once, in the order of its return."""
    seen: set[str] = set()
    again: dict[str, None] = {}
    for name in names:
        if name in seen:
            again[name] = None
        seen.add(name)
    return tuple(again)


def repeated_fields(value: Any, path: str = "") -> list[str]:
    """`duplicate field "spec.replicas"`, for all `RepeatedKeys` in what `loads_strict` gave."""
    if isinstance(value, list):
        items = enumerate(cast(list[Any], value))
        return [problem for index, item in items for problem in repeated_fields(item, f"{path}[{index}]")]
    if not isinstance(value, dict):
        return []
    members = cast(dict[str, Any], value)
    place = f"{path}." if path else ""
    found = [problem for name, item in members.items() for problem in repeated_fields(item, place + name)]
    if isinstance(members, RepeatedKeys):
        found += [f'duplicate field "{place}{name}"' for name in members.repeated]
    return found


def syntax_error(text: bytes) -> str:
    """What encoding/json says of a text that is no JSON."""
    try:
        source = text.decode()
    except UnicodeDecodeError:
        source = text.decode(errors="replace")
    try:
        json.loads(source, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        return _go_error(source, error)
    except (ValueError, RecursionError):
        pass
    return "invalid character in JSON input"


def _number(digits: str) -> int | float:
    """As orjson and Go read them: what no 64 bits hold is a floating point number."""
    value = int(digits)
    return value if -(1 << 63) <= value < 1 << 64 else float(digits)


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _go_error(source: str, error: json.JSONDecodeError) -> str:
    place = error.pos
    if error.msg.startswith("Unterminated string"):
        return END
    if error.msg.startswith("Invalid \\"):
        place += 1
    elif not error.msg.startswith("Invalid control"):
        place = _next_character(source, place + error.msg.startswith("Illegal trailing comma"))
    if place >= len(source):
        return END
    character = source[place]
    if error.msg == "Expecting value" and character in _LITERALS:
        return _literal_error(source, place)
    return f"invalid character {_quoted(character)} {_context(source, place, error.msg)}"


def _next_character(source: str, place: int) -> int:
    match = re.compile(r"[ \t\r\n]*").match(source, place)
    return match.end() if match else place


def _literal_error(source: str, place: int) -> str:
    literal = _LITERALS[source[place]]
    for offset, expected in enumerate(literal):
        if place + offset >= len(source):
            return END
        found = source[place + offset]
        if found != expected:
            return f"invalid character {_quoted(found)} in literal {literal} (expecting '{expected}')"
    return END


def _context(source: str, place: int, message: str) -> str:
    if message.startswith(("Expecting property name", "Illegal trailing comma before end of object")):
        return "looking for beginning of object key string"
    if message.startswith("Expecting ':'"):
        return "after object key"
    if message.startswith("Expecting ','"):
        return "after object key:value pair" if _innermost(source[:place]) == "{" else "after array element"
    if message.startswith("Extra data"):
        return "after top-level value"
    if message.startswith("Invalid control character"):
        return "in string literal"
    if message.startswith("Invalid \\"):
        return "in string escape code"
    return "looking for beginning of value"


def _innermost(source: str) -> str:
    """The bracket that is open at the end of the text."""
    stack: list[str] = []
    for token in cast(list[str], re.findall(r'"(?:[^"\\]|\\.)*"|[][{}]', source)):
        if token in "{[":
            stack.append(token)
        elif token in "}]" and stack:
            stack.pop()
    return stack[-1] if stack else ""


def _quoted(character: str) -> str:
    """Go's quoted rune."""
    special = {"'": r"'\''", '"': "'\"'", "\n": r"'\n'", "\t": r"'\t'", "\r": r"'\r'", "\\": r"'\\'"}
    if character in special:
        return special[character]
    if not character.isprintable():
        return f"'\\u{ord(character):04x}'" if ord(character) > 0x7F else f"'\\x{ord(character):02x}'"
    return f"'{character}'"
