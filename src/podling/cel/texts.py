"""The functions of texts: cel-go's extension, as Kubernetes enables it, and Kubernetes' own for regular expressions."""

# The functions of the table are one-line lambdas over values that the checker has typed already.
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final, cast

from podling.api.gotext import quoted
from podling.api.regexp import Regexp, RegexpError, regexp
from podling.cel.values import CelError, to_string, type_name


def _regexp(pattern: str, before: str = "") -> Regexp:
    try:
        return regexp(pattern)
    except RegexpError as error:
        raise CelError(f"{before}{error}") from None


def _find_all(text: str, pattern: str, most: int = -1) -> list[str]:
    return list(islice(_regexp(pattern, "Illegal regex: ").found(text), most if most >= 0 else None))


def _index_of(text: str, part: str, start: int = 0) -> int:
    if not 0 <= start <= len(text):
        raise CelError(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, start: int | None = None) -> int:
    return text.rfind(part) if start is None else text.rfind(part, 0, start + len(part))


def _substring(text: str, start: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    if not 0 <= start <= len(text) or not start <= stop <= len(text):
        raise CelError(
            f"index out of range: {start}" if end is None else f"invalid substring range. start: {start}, end: {stop}"
        )
    return text[start:stop]


def _char_at(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise CelError(f"index out of range: {at}")
    return text[at : at + 1]


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if separator == "":
        parts = list(text)
        return parts if limit < 0 or len(parts) <= limit else [*parts[: limit - 1], "".join(parts[limit - 1 :])]
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    return text.replace(old, new, count)


def _ascii(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "".join(change(c) if c.isascii() else c for c in text)


def _quote(text: str) -> str:
    escapes = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    return '"' + "".join(escapes.get(c) or ("\\" + c if c in '"\\' else c) for c in text) + '"'


_MOST_DIGITS: Final = 100


_VERB: Final = re.compile(r"%(?:\.(\d+))?(.)?", re.DOTALL)


def _format(text: str, values: list[Any]) -> str:
    left = iter(values)

    def shown(match: re.Match[str]) -> str:
        precision, verb = match[1], match[2]
        if precision and int(precision) > _MOST_DIGITS:
            raise CelError(f"precision may not be greater than {_MOST_DIGITS}")
        if verb == "%":
            return "%"
        try:
            value = next(left)
        except StopIteration:
            raise CelError("index out of range") from None
        return _formatted(verb or "", value, int(precision) if precision else None)

    return _VERB.sub(shown, text)


def _formatted(verb: str, value: Any, precision: int | None) -> str:
    given = type_name(value)
    match verb:
        case "s":
            return _shown(value)
        case "d":
            _of(verb, given, "int", "uint")
            return str(int(value))
        case "f":
            _of(verb, given, "double")
            return f"{value:,.{_DIGITS if precision is None else precision}f}"
        case "e":
            _of(verb, given, "double")
            mantissa, _, exponent = f"{value:.{_DIGITS if precision is None else precision}e}".partition("e")
            return f"{mantissa}×10{exponent.lstrip('+').translate(_RAISED)}"
        case "b":
            _of(verb, given, "int", "uint", "bool")
            return f"{int(value):b}"
        case "o":
            _of(verb, given, "int", "uint")
            return f"{int(value):o}"
        case "x" | "X":
            _of(verb, given, "int", "uint", "string", "bytes")
            return _hex(value, verb)
        case _:
            raise CelError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')


_DIGITS: Final = 6
_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_CLAUSES: Final = {
    "d": "decimal clause can only be used on integers",
    "f": "fixed-point clause can only be used on doubles",
    "e": "scientific clause can only be used on doubles",
    "b": "only integers and bools can be formatted as binary",
    "o": "octal clause can only be used on integers",
    "x": "only integers, byte buffers, and strings can be formatted as hex",
    "X": "only integers, byte buffers, and strings can be formatted as hex",
}


def _of(verb: str, given: str, *wanted: str) -> None:
    if given not in wanted:
        raise CelError(f"error during formatting: {_CLAUSES[verb]}, was given {given}")


def _hex(value: Any, verb: str) -> str:
    text = value.encode().hex() if isinstance(value, str) else value.hex() if isinstance(value, bytes) else f"{value:x}"
    return text.upper() if verb == "X" else text


def _shown(value: Any) -> str:
    match value:
        case list():
            return "[" + ", ".join(map(_literal, cast("list[Any]", value))) + "]"
        case dict():
            members = cast("dict[Any, Any]", value)
            return "{" + ", ".join(sorted(f"{_literal(key)}:{_literal(item)}" for key, item in members.items())) + "}"
        case None:
            return "null"
        case _:
            return to_string(value)


def _literal(value: Any) -> str:
    """An item as it could stand in an expression."""
    match value:
        case str():
            return quoted(value)
        case bytes():
            return f"b{quoted(to_string(value))}"
        case datetime():
            return f'timestamp("{to_string(value)}")'
        case timedelta():
            return f'duration("{to_string(value)}")'
        case float():
            return f"{value:.{_DIGITS}f}"
        case _:
            return _shown(value)


def overloads() -> Iterable[tuple[str, Callable[..., Any]]]:
    yield "string.startsWith(string) bool", str.startswith
    yield "string.endsWith(string) bool", str.endswith
    yield "string.contains(string) bool", lambda a, b: b in a
    yield "string.matches(string) bool", lambda a, b: _regexp(b).matches(a)
    yield "matches(string, string) bool", lambda a, b: _regexp(b).matches(a)
    yield "string.charAt(int) string", _char_at
    yield "string.indexOf(string) int", _index_of
    yield "string.indexOf(string, int) int", _index_of
    yield "string.lastIndexOf(string) int", _last_index_of
    yield "string.lastIndexOf(string, int) int", _last_index_of
    yield "string.lowerAscii() string", _ascii(str.lower)
    yield "string.upperAscii() string", _ascii(str.upper)
    yield "string.replace(string, string) string", _replace
    yield "string.replace(string, string, int) string", _replace
    yield "string.split(string) list<string>", _split
    yield "string.split(string, int) list<string>", _split
    yield "string.substring(int) string", _substring
    yield "string.substring(int, int) string", _substring
    yield "string.trim() string", str.strip
    yield "string.format(list<dyn>) string", _format
    yield "list<string>.join() string", "".join
    yield "list<string>.join(string) string", lambda a, b: b.join(a)
    yield "strings.quote(string) string", _quote
    yield "string.find(string) string", lambda a, b: next(_regexp(b, "Illegal regex: ").found(a), "")
    yield "string.findAll(string) list<string>", _find_all
    yield "string.findAll(string, int) list<string>", _find_all
