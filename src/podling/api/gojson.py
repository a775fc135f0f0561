"""JSON text read with encoding/json's complaints, and with an eye for repeated keys.

orjson does the work; only what it refuses, or what may hold a key twice, is looked at again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, Final, cast

import orjson

from podling.api.structs import Literal, RepeatedKeys, unmarshal_error

END: Final = "unexpected end of JSON input"
TOO_DEEP: Final = "exceeded max depth"

MAX_DEPTH: Final = 200
"""Nesting beyond this is refused. Go reads 10,000 levels; orjson writes 254, a few of which answers need themselves."""

_INT64_DIGITS: Final = 20
"""No integer of 64 bits is longer, sign included."""

_NO_VALUE: Final = "looking for beginning of value"
_LITERALS: Final = {"t": "true", "f": "false", "n": "null"}


class JsonError(ValueError):
    """The text is no JSON; the message is encoding/json's."""


class HugeNumberError(JsonError):
    """A number that no 64 bits hold, not even roughly (`1e400`). `value` is what the text says, the number in it an
    infinite `Literal`: where a type is known the error names the field."""

    def __init__(self, value: Any, number: Literal) -> None:
        super().__init__(unmarshal_error(number, "float64"))
        self.value = value


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
    huge: list[Literal] = []

    def number(digits: str) -> int | float:
        value = _number(digits)
        if not math.isinf(value):
            return value
        huge.append(Literal(digits))
        return huge[-1]

    try:
        parsed = json.loads(text.decode(errors="replace"), parse_constant=_refuse, parse_int=number, parse_float=number)
    except (ValueError, RecursionError):
        raise JsonError(syntax_error(text)) from None
    try:
        value = _with_replacements(parsed)
    except RecursionError:
        raise JsonError(TOO_DEEP) from None
    if huge:
        raise HugeNumberError(value, huge[0])
    return value


def literal(text: bytes) -> Any:
    """As `loads`, of a text that it has read; numbers as they are written (`1e2` is no `100.0` in a message)."""
    return json.loads(text.decode(errors="replace"), parse_int=_literal_int, parse_float=Literal)


def _literal_int(digits: str) -> int | float:
    return Literal(digits) if len(digits) > _INT64_DIGITS else int(digits)


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
    source = text.decode("latin-1")  # Go counts, and shows, bytes
    try:
        json.loads(source, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        return _go_error(source, error)
    except _ConstantError:
        return _constant_error(source)
    except RecursionError:
        return TOO_DEEP
    return "invalid character in JSON input"


def _number(digits: str) -> int | float:
    """As orjson and Go read them: what no 64 bits hold is a floating point number."""
    if len(digits) > _INT64_DIGITS or not digits.lstrip("-").isdecimal():
        return float(digits)
    value = int(digits)
    return value if -(1 << 63) <= value < 1 << 64 else float(digits)


class _ConstantError(ValueError):
    """`NaN` or `Infinity`, which Python reads."""


def _refuse(name: str) -> Any:
    raise _ConstantError(name)


def _constant_error(source: str) -> str:
    """Of the first of these words outside strings."""
    found = next(m for m in re.finditer(r'"(?:[^"\\]|\\.)*"|(-?)([NI])', source) if m[2])
    return f"invalid character '{found[2]}' {'in numeric literal' if found[1] else _NO_VALUE}"


_NUMBER_CHARACTERS: Final = "0123456789.eE+-"
_BEFORE_FRACTION: Final = re.compile(r"-?[0-9]+")
_BEFORE_EXPONENT: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_EXPONENT: Final = re.compile(r"[eE][+-]?")


def _number_error(source: str, place: int) -> str:
    """Python goes back to where a number was one last, Go finds fault with what follows. `""`: it is no number."""
    start = place
    while start > 0 and source[start - 1] in _NUMBER_CHARACTERS:
        start -= 1
    if start == place and source.startswith("-", place):
        end, where = place + 1, "in numeric literal"
    elif source.startswith(".", place) and _BEFORE_FRACTION.fullmatch(source, start, place):
        end, where = place + 1, "after decimal point in numeric literal"
    elif (exponent := _EXPONENT.match(source, place)) and _BEFORE_EXPONENT.fullmatch(source, start, place):
        end, where = exponent.end(), "in exponent of numeric literal"
    else:
        return ""
    return END if end >= len(source) else f"invalid character {_quoted(source[end])} {where}"


def _go_error(source: str, error: json.JSONDecodeError) -> str:
    place = error.pos
    if number := _number_error(source, place):
        return number
    if error.msg.startswith("Invalid \\u"):
        return _escape_error(source, source.index("\\u", place - 1 if place else 0) + 2)
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


def _escape_error(source: str, place: int) -> str:
    """The first of four that is no hexadecimal digit."""
    found = re.compile(r"[0-9a-fA-F]{0,4}").match(source, place)
    end = found.end() if found is not None else place
    if end >= len(source):
        return END
    return f"invalid character {_quoted(source[end])} in \\u hexadecimal character escape"


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
    return _NO_VALUE


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
