"""The functions of CEL: the standard ones, the extensions that Kubernetes enables, and Kubernetes' own.

Each entry is a signature and what computes it. `string.startsWith(string) bool` is called on a value, `size(string)
int` is not. Capitals are parameters of the signature.
"""

# The functions of the table are one-line lambdas over values that the checker has typed already.
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import ipaddress
import math
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from functools import cache
from itertools import islice, pairwise
from typing import Any, Final, NamedTuple, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from podling.api import quantity
from podling.api.regexp import Regexp, RegexpError, regexp
from podling.api.structs import DecodeError, parse_duration
from podling.cel import authorization
from podling.cel.types import Type, parse_type
from podling.cel.values import CelError, Opaque, Optional, Quantity, UInt, equal, no_key, no_overload, type_name

_INT_LOW, _INT_HIGH = -(2**63), 2**63 - 1
_UINT_HIGH = 2**64 - 1


class Overload(NamedTuple):
    """One signature of a function. `on_value`: its first parameter is what it is called on."""

    name: str
    on_value: bool
    parameters: tuple[Type, ...]
    result: Type
    compute: Callable[..., Any]


# Numbers


def _ranged(value: int, unsigned: bool = False) -> int:
    if unsigned:
        if not 0 <= value <= _UINT_HIGH:
            raise CelError("unsigned integer overflow")
        return UInt(value)
    if not _INT_LOW <= value <= _INT_HIGH:
        raise CelError("integer overflow")
    return value


def _arithmetic(compute: Callable[[int, int], int]) -> Callable[[int, int], int]:
    return lambda a, b: _ranged(compute(a, b), isinstance(a, UInt))


def _divided(a: int, b: int) -> int:
    if b == 0:
        raise CelError("division by zero")
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _remainder(a: int, b: int) -> int:
    if b == 0:
        raise CelError("modulus by zero")
    return a - b * _divided(a, b)


def _float_divided(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


def _to_int(value: Any) -> int:
    match value:
        case str():
            if re.fullmatch(r"[+-]?\d+", value) is None or not _INT_LOW <= int(value) <= _INT_HIGH:
                raise CelError("type conversion error from 'string' to 'int'")
            return int(value)
        case datetime():
            return math.floor(value.timestamp())
        case timedelta():
            return math.floor(value.total_seconds())
        case float():
            if not math.isfinite(value) or not _INT_LOW < value < _INT_HIGH:
                raise CelError("integer overflow")
            return int(value)
        case _:
            return _ranged(int(value))


def _to_uint(value: Any) -> int:
    if isinstance(value, str) and not value.isdecimal():
        raise CelError("type conversion error from 'string' to 'uint'")
    return _ranged(int(value), unsigned=True)


def _to_double(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        raise CelError("type conversion error from 'string' to 'double'") from None


def _to_bool(value: str) -> bool:
    if value in ("1", "t", "true", "TRUE", "True", "T"):
        return True
    if value in ("0", "f", "false", "FALSE", "False", "F"):
        return False
    raise CelError("type conversion error from 'string' to 'bool'")


def to_string(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case bytes():
            return value.decode()
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return f"{value.total_seconds():.9f}".rstrip("0").rstrip(".") + "s"
        case Quantity():
            return value.text
        case Opaque():
            return str(value.value)
        case _:
            return str(value)


def _to_timestamp(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise CelError(f'invalid timestamp: "{value}"') from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _to_duration(value: str) -> timedelta:
    try:
        return timedelta(microseconds=parse_duration(value) / 1000)
    except DecodeError:
        raise CelError(f'time: invalid duration "{value}"') from None


# Strings


def _regexp(pattern: str) -> Regexp:
    try:
        return regexp(pattern)
    except RegexpError as error:
        raise CelError(str(error)) from None


def _find_all(text: str, pattern: str, most: int = -1) -> list[str]:
    return list(islice(_regexp(pattern).found(text), most if most >= 0 else None))


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
    match verb:
        case "s":
            return _clause(value)
        case "d" if isinstance(value, int | float):
            return str(value) if isinstance(value, int) else to_string(value)
        case "f" if isinstance(value, int | float):
            return f"{value:.{6 if precision is None else precision}f}"
        case "e" if isinstance(value, int | float):
            return f"{value:.{6 if precision is None else precision}e}"
        case "b" if isinstance(value, int):
            return f"{int(value):b}"
        case "o" if isinstance(value, int):
            return f"{value:o}"
        case "x" | "X":
            return _hex(value, verb)
        case _:
            raise CelError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')


def _hex(value: Any, verb: str) -> str:
    text = value.encode().hex() if isinstance(value, str) else value.hex() if isinstance(value, bytes) else f"{value:x}"
    return text.upper() if verb == "X" else text


def _clause(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_clause, cast("list[Any]", value))) + "]"
    if isinstance(value, dict):
        items = sorted((_clause(k), _clause(v)) for k, v in cast("dict[Any, Any]", value).items())
        return "{" + ", ".join(f"{key}: {item}" for key, item in items) + "}"
    return "null" if value is None else to_string(value)


# Collections


def _contains(item: Any, items: Iterable[Any]) -> bool:
    return any(equal(item, other) for other in items)


def item_at(items: Any, at: Any) -> Any:
    """`items[at]`."""
    if isinstance(items, list):
        found = cast("list[Any]", items)
        if not isinstance(at, int) or isinstance(at, bool):
            raise no_overload()
        if not 0 <= at < len(found):
            raise CelError(f"index out of bounds: {at}")
        return found[at]
    if isinstance(items, dict):
        members = cast("dict[Any, Any]", items)
        if at not in members:
            raise no_key(to_string(at))
        return members[at]
    raise no_overload()


def _sum(items: list[Any]) -> Any:
    if items and isinstance(items[0], timedelta):
        return sum(items, timedelta())
    return sum(items)


def _extreme(choose: Callable[..., Any], name: str) -> Callable[[list[Any]], Any]:
    def compute(items: list[Any]) -> Any:
        if not items:
            raise CelError(f"{name} called on empty list")
        return choose(items)

    return compute


def _first_at(items: list[Any], value: Any) -> int:
    return next((at for at, item in enumerate(items) if equal(item, value)), -1)


def _last_at(items: list[Any], value: Any) -> int:
    return next((at for at in range(len(items) - 1, -1, -1) if equal(items[at], value)), -1)


def _is_sorted(items: list[Any]) -> bool:
    return all(a <= b for a, b in pairwise(items))


# Time


def _zoned(moment: datetime, zone: str) -> datetime:
    if not zone:
        return moment.astimezone(UTC)
    offset = re.fullmatch(r"([+-]?)(\d\d):(\d\d)", zone)
    try:
        if offset is None:
            return moment.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError):
        raise CelError(f"unknown time zone {zone}") from None
    length = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
    return moment.astimezone(timezone(-length if offset[1] == "-" else length))


_TIME_PARTS: Final[Mapping[str, Callable[[datetime], int]]] = {
    "getFullYear": lambda t: t.year,
    "getMonth": lambda t: t.month - 1,
    "getDate": lambda t: t.day,
    "getDayOfMonth": lambda t: t.day - 1,
    "getDayOfWeek": lambda t: t.isoweekday() % 7,
    "getDayOfYear": lambda t: t.timetuple().tm_yday - 1,
    "getHours": lambda t: t.hour,
    "getMinutes": lambda t: t.minute,
    "getSeconds": lambda t: t.second,
    "getMilliseconds": lambda t: t.microsecond // 1000,
}
_DURATION_PARTS: Final[Mapping[str, Callable[[timedelta], int]]] = {
    "getHours": lambda d: int(d.total_seconds() / 3600),
    "getMinutes": lambda d: int(d.total_seconds() / 60),
    "getSeconds": lambda d: int(d.total_seconds()),
    "getMilliseconds": lambda d: d.microseconds // 1000,
}


def _time_overloads() -> Iterable[tuple[str, Callable[..., Any]]]:
    for name, read in _TIME_PARTS.items():
        yield f"timestamp.{name}() int", lambda t, read=read: read(t.astimezone(UTC))
        yield f"timestamp.{name}(string) int", lambda t, zone, read=read: read(_zoned(t, zone))
    for name, read in _DURATION_PARTS.items():
        yield f"duration.{name}() int", read


# Kubernetes' own


def _quantity(text: str) -> Quantity:
    try:
        return Quantity(Fraction(quantity.of(text).nanos, 10**9), text)
    except quantity.QuantityError as error:
        raise CelError(str(error)) from None


def _is(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except CelError:
            return False
        return True

    return check


def _whole(value: Quantity) -> int:
    if value.amount.denominator != 1 or not _INT_LOW <= value.amount <= _INT_HIGH:
        raise CelError("cannot convert value to integer")
    return int(value.amount)


def _as_quantity(amount: Fraction) -> Quantity:
    return Quantity(amount, str(int(amount)) if amount.denominator == 1 else f"{int(amount * 1000)}m")


def _added(value: Quantity, other: Quantity | int, sign: int = 1) -> Quantity:
    more = other.amount if isinstance(other, Quantity) else Fraction(other)
    return _as_quantity(value.amount + sign * more)


def _compared(one: Any, other: Any) -> int:
    return (one > other) - (one < other)


def _ip(text: str) -> Opaque:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise CelError(
            f"IP Address '{text}' parse error during conversion from string: ParseAddr(\"{text}\")"
        ) from None
    if "%" in text or (address.version == 6 and address.ipv4_mapped is not None):
        raise CelError(f'IP address "{text}" is an IPv4-mapped or zoned address, which is not allowed')
    return Opaque("net.IP", address)


def _cidr(text: str) -> Opaque:
    try:
        if "/" not in text:
            raise ValueError
        return Opaque("net.CIDR", ipaddress.ip_interface(text))
    except ValueError:
        raise CelError(f'network address parse error during conversion from string: "{text}"') from None


def _holds_ip(net: Opaque, address: Opaque) -> bool:
    network = net.value.network
    return bool(address.value.version == network.version and address.value in network)


def _holds_net(net: Opaque, other: Opaque) -> bool:
    outer, inner = net.value.network, other.value.network
    return bool(outer.version == inner.version and inner.subnet_of(outer))


def _url(text: str) -> Opaque:
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port
    except ValueError:
        raise CelError(
            f'URL parse error during conversion from string: parse "{text}": invalid URI for request'
        ) from None
    if not (parts.scheme or text.startswith("/")) or " " in text:
        raise CelError(f'URL parse error during conversion from string: parse "{text}": invalid URI for request')
    return Opaque("kubernetes.URL", parts)


def _host(url: Opaque) -> str:
    return str(url.value.netloc.rpartition("@")[2])


def _query(url: Opaque) -> dict[str, list[str]]:
    return urllib.parse.parse_qs(url.value.query, keep_blank_values=True)


_SEMVER: Final = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?", re.ASCII
)


def _semver(text: str, normalize: bool = False) -> Opaque:
    if normalize:
        text = text.removeprefix("v")
        numbers, mark, rest = re.fullmatch(r"([\d.]*)(.?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        parts = [str(int(p or 0)) for p in [*numbers.split("."), "0", "0"][:3]]
        text = ".".join(parts) + mark + rest
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise CelError("No Major.Minor.Patch elements found")
    return Opaque("kubernetes.Semver", _SemverKey(match))


class _SemverKey:
    def __init__(self, match: re.Match[str]) -> None:
        self.numbers = tuple(int(match[at]) for at in (1, 2, 3))
        before = match[4]
        pieces = before.split(".") if before else []
        self.rank = (not before, [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in pieces])
        self.key = (*self.numbers, *self.rank)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SemverKey) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.numbers)

    def __lt__(self, other: _SemverKey) -> bool:
        return self.key < other.key

    def __gt__(self, other: _SemverKey) -> bool:
        return self.key > other.key


# Optional values


def _value(optional: Optional) -> Any:
    if not optional.present:
        raise CelError("optional.none() dereference")
    return optional.value


def _non_zero(value: Any) -> Optional:
    return Optional(value, True) if value not in (0, "", None, [], {}, False, b"") else Optional()


def _unwrapped(items: list[Optional]) -> list[Any]:
    return [item.value for item in items if item.present]


def _table() -> Iterable[tuple[str, Callable[..., Any]]]:
    for kind in ("int", "uint"):
        for name, compute in (
            ("_+_", lambda a, b: a + b),
            ("_-_", lambda a, b: a - b),
            ("_*_", lambda a, b: a * b),
            ("_/_", _divided),
            ("_%_", _remainder),
        ):
            yield f"{name}({kind}, {kind}) {kind}", _arithmetic(cast(Callable[[int, int], int], compute))
    yield "_+_(double, double) double", lambda a, b: a + b
    yield "_-_(double, double) double", lambda a, b: a - b
    yield "_*_(double, double) double", lambda a, b: a * b
    yield "_/_(double, double) double", _float_divided
    yield "-_(int) int", lambda a: _ranged(-a)
    yield "-_(double) double", lambda a: -a
    for kind in ("string", "bytes"):
        yield f"_+_({kind}, {kind}) {kind}", lambda a, b: a + b
    yield "_+_(list<A>, list<A>) list<A>", lambda a, b: a + b
    yield "_+_(timestamp, duration) timestamp", lambda a, b: a + b
    yield "_+_(duration, timestamp) timestamp", lambda a, b: b + a
    yield "_+_(duration, duration) duration", lambda a, b: a + b
    yield "_-_(timestamp, timestamp) duration", lambda a, b: a - b
    yield "_-_(timestamp, duration) timestamp", lambda a, b: a - b
    yield "_-_(duration, duration) duration", lambda a, b: a - b
    yield "!_(bool) bool", lambda a: not a
    yield "_==_(A, A) bool", equal
    yield "_!=_(A, A) bool", lambda a, b: not equal(a, b)
    ordered = ("bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration")
    mixed = (
        ("int", "uint"),
        ("int", "double"),
        ("uint", "int"),
        ("uint", "double"),
        ("double", "int"),
        ("double", "uint"),
    )
    for left, right in (*((kind, kind) for kind in ordered), *mixed):
        yield f"_<_({left}, {right}) bool", lambda a, b: a < b
        yield f"_<=_({left}, {right}) bool", lambda a, b: a <= b
        yield f"_>_({left}, {right}) bool", lambda a, b: a > b
        yield f"_>=_({left}, {right}) bool", lambda a, b: a >= b
    yield "@in(A, list<A>) bool", _contains
    yield "@in(A, map<A,B>) bool", lambda a, b: a in b
    yield "_[_](list<A>, int) A", item_at
    yield "_[_](map<A,B>, A) B", item_at
    for kind in ("string", "bytes", "list<A>", "map<A,B>"):
        yield f"size({kind}) int", len
        yield f"{kind}.size() int", len
    for kind in ("int", "uint", "double", "string", "timestamp", "duration"):
        yield f"int({kind}) int", _to_int
    for kind in ("int", "uint", "double", "string"):
        yield f"uint({kind}) uint", _to_uint
        yield f"double({kind}) double", _to_double
    for kind in (
        "bool",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "timestamp",
        "duration",
        "kubernetes.Quantity",
        "net.IP",
        "net.CIDR",
    ):
        yield f"string({kind}) string", to_string
    yield "bool(bool) bool", lambda a: a
    yield "bool(string) bool", _to_bool
    yield "bytes(string) bytes", lambda a: a.encode()
    yield "bytes(bytes) bytes", lambda a: a
    yield "timestamp(string) timestamp", _to_timestamp
    yield "timestamp(timestamp) timestamp", lambda a: a
    yield "timestamp(int) timestamp", lambda a: datetime.fromtimestamp(a, UTC)
    yield "duration(string) duration", _to_duration
    yield "duration(duration) duration", lambda a: a
    yield "dyn(A) dyn", lambda a: a
    yield "type(A) type", type_name
    yield from _string_overloads()
    yield from _list_overloads()
    yield from _time_overloads()
    yield from _kubernetes_overloads()
    yield from _optional_overloads()
    yield from authorization.overloads(_is_formatted("dns1123Subdomain"), _is_formatted("dns1123Label"))
    yield "jsonpatch.escapeKey(string) string", lambda a: a.replace("~", "~0").replace("/", "~1")


def _string_overloads() -> Iterable[tuple[str, Callable[..., Any]]]:
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
    yield "string.find(string) string", lambda a, b: next(_regexp(b).found(a), "")
    yield "string.findAll(string) list<string>", _find_all
    yield "string.findAll(string, int) list<string>", _find_all


def _list_overloads() -> Iterable[tuple[str, Callable[..., Any]]]:
    yield "list<A>.isSorted() bool", _is_sorted
    yield "list<A>.sum() A", _sum
    yield "list<A>.min() A", _extreme(min, "min")
    yield "list<A>.max() A", _extreme(max, "max")
    yield "list<A>.indexOf(A) int", _first_at
    yield "list<A>.lastIndexOf(A) int", _last_at
    yield "sets.contains(list<A>, list<A>) bool", lambda a, b: all(_contains(item, a) for item in b)
    yield (
        "sets.equivalent(list<A>, list<A>) bool",
        lambda a, b: all(_contains(item, a) for item in b) and all(_contains(item, b) for item in a),
    )
    yield "sets.intersects(list<A>, list<A>) bool", lambda a, b: any(_contains(item, a) for item in b)


def _kubernetes_overloads() -> Iterable[tuple[str, Callable[..., Any]]]:
    q = "kubernetes.Quantity"
    yield f"quantity(string) {q}", _quantity
    yield "isQuantity(string) bool", _is(_quantity)
    yield f"{q}.isInteger() bool", _is_whole
    yield f"{q}.asInteger() int", _whole
    yield f"{q}.asApproximateFloat() double", lambda a: float(a.amount)
    yield f"{q}.sign() int", lambda a: _compared(a.amount, 0)
    for other in (q, "int"):
        yield f"{q}.add({other}) {q}", _added
        yield f"{q}.sub({other}) {q}", lambda a, b: _added(a, b, -1)
    yield f"{q}.isGreaterThan({q}) bool", lambda a, b: a.amount > b.amount
    yield f"{q}.isLessThan({q}) bool", lambda a, b: a.amount < b.amount
    yield f"{q}.compareTo({q}) int", lambda a, b: _compared(a.amount, b.amount)
    yield "ip(string) net.IP", _ip
    yield "isIP(string) bool", _is(_ip)
    yield "ip.isCanonical(string) bool", lambda text: str(_ip(text).value) == text
    yield "net.IP.family() int", lambda a: a.value.version
    yield "net.IP.isUnspecified() bool", lambda a: a.value.is_unspecified
    yield "net.IP.isLoopback() bool", lambda a: a.value.is_loopback
    yield "net.IP.isLinkLocalMulticast() bool", _is_link_local_multicast
    yield "net.IP.isLinkLocalUnicast() bool", lambda a: a.value.is_link_local
    yield "net.IP.isGlobalUnicast() bool", _is_global_unicast
    yield "cidr(string) net.CIDR", _cidr
    yield "isCIDR(string) bool", _is(_cidr)
    yield "net.CIDR.containsIP(net.IP) bool", _holds_ip
    yield "net.CIDR.containsIP(string) bool", lambda a, b: _holds_ip(a, _ip(b))
    yield "net.CIDR.containsCIDR(net.CIDR) bool", _holds_net
    yield "net.CIDR.containsCIDR(string) bool", lambda a, b: _holds_net(a, _cidr(b))
    yield "net.CIDR.ip() net.IP", lambda a: Opaque("net.IP", a.value.ip)
    yield "net.CIDR.masked() net.CIDR", lambda a: _cidr(str(a.value.network))
    yield "net.CIDR.prefixLength() int", lambda a: a.value.network.prefixlen
    u = "kubernetes.URL"
    yield f"url(string) {u}", _url
    yield "isURL(string) bool", _is(_url)
    yield f"{u}.getScheme() string", lambda a: a.value.scheme
    yield f"{u}.getHost() string", _host
    yield f"{u}.getHostname() string", lambda a: a.value.hostname or ""
    yield f"{u}.getPort() string", lambda a: str(a.value.port or "")
    yield f"{u}.getEscapedPath() string", lambda a: a.value.path
    yield f"{u}.getQuery() map<string,list<string>>", _query
    s = "kubernetes.Semver"
    yield f"semver(string) {s}", _semver
    yield f"semver(string, bool) {s}", _semver
    yield "isSemver(string) bool", _is(_semver)
    yield "isSemver(string, bool) bool", lambda a, b: _is(lambda text: _semver(text, b))(a)
    for at, part in enumerate(("major", "minor", "patch")):
        yield f"{s}.{part}() int", lambda a, at=at: a.value.numbers[at]
    yield f"{s}.isGreaterThan({s}) bool", lambda a, b: a.value > b.value
    yield f"{s}.isLessThan({s}) bool", lambda a, b: a.value < b.value
    yield f"{s}.compareTo({s}) int", lambda a, b: _compared(a.value, b.value)
    yield "format.named(string) ?kubernetes.NamedFormat", _named_format
    for name in _NAMED_RULES:
        yield f"format.{name}() kubernetes.NamedFormat", lambda name=name: Opaque(_NAMED_FORMAT, name)
    yield "kubernetes.NamedFormat.validate(string) ?list<string>", _validated
    i = "kubernetes.Image"
    yield f"image(string) {i}", _image
    yield "isImage(string) bool", _is(_image)
    yield f"{i}.containsDigest() bool", lambda a: bool(a.value["digest"])
    yield f"{i}.identifier() string", lambda a: a.value["digest"] or a.value["tag"]
    for name in ("registry", "repository", "tag", "digest"):
        yield f"{i}.{name}() string", lambda a, name=name: a.value[name]


def _is_whole(value: Quantity) -> bool:
    return value.amount.denominator == 1 and _INT_LOW <= value.amount <= _INT_HIGH


def _is_link_local_multicast(address: Opaque) -> bool:
    networks = {4: "224.0.0.0/24", 6: "ff02::/16"}
    return address.value in ipaddress.ip_network(networks[address.value.version])


def _is_global_unicast(address: Opaque) -> bool:
    value = address.value
    return not (value.is_unspecified or value.is_loopback or value.is_multicast or value.is_link_local)


_LABEL: Final = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMED_RULES: Final = {
    "dns1123Label": (_LABEL, 63),
    "dns1123Subdomain": (rf"{_LABEL}(\.{_LABEL})*", 253),
    "dns1035Label": ("[a-z]([-a-z0-9]*[a-z0-9])?", 63),
    "dns1123LabelPrefix": ("[a-z0-9][-a-z0-9]*", 63),
    "dns1123SubdomainPrefix": (rf"({_LABEL}\.)*[a-z0-9][-a-z0-9]*", 253),
    "dns1035LabelPrefix": ("[a-z][-a-z0-9]*", 63),
    "qualifiedName": (rf"({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", 317),
    "labelValue": ("([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?", 63),
    "uri": (r"([A-Za-z][A-Za-z0-9+.-]*:|/)\S*", 1000),
    "uuid": ("[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}", 45),
    "byte": ("([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", 1 << 20),
    "date": (r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", 10),
    "datetime": (
        r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)",
        64,
    ),
}
"""Pattern and greatest length of each format."""
_NAMED_FORMAT: Final = "kubernetes.NamedFormat"


def _named_format(name: str) -> Optional:
    return Optional(Opaque(_NAMED_FORMAT, name), True) if name in _NAMED_RULES else Optional()


def _is_formatted(name: str) -> Callable[[str], bool]:
    pattern, longest = _NAMED_RULES[name]
    return lambda text: len(text) <= longest and re.fullmatch(pattern, text, re.ASCII) is not None


def _validated(form: Opaque, text: str) -> Optional:
    if _is_formatted(form.value)(text):
        return Optional()
    return Optional([f"must be a valid {form.value}"], True)


_IMAGE: Final = re.compile(
    r"(?:(?P<registry>(?:[a-zA-Z0-9.-]+\.[a-zA-Z0-9.-]+|localhost)(?::\d+)?|[a-zA-Z0-9-]+:\d+|\[[0-9a-f:]+\](?::\d+)?)/)?"
    r"(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::(?P<tag>[\w][\w.-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)


def _image(text: str) -> Opaque:
    """A reference with what Docker adds to one that is short."""
    match = _IMAGE.fullmatch(text)
    if match is None:
        raise CelError(f"image format error: could not parse image reference {text!r}")
    found = {key: value or "" for key, value in match.groupdict().items()}
    if not found["registry"]:
        found["registry"] = "docker.io"
    if found["registry"] == "docker.io" and "/" not in found["repository"]:
        found["repository"] = f"library/{found['repository']}"
    if not found["tag"] and not found["digest"]:
        found["tag"] = "latest"
    return Opaque("kubernetes.Image", found)


def _optional_overloads() -> Iterable[tuple[str, Callable[..., Any]]]:
    yield "optional.of(A) ?A", lambda a: Optional(a, True)
    yield "optional.ofNonZeroValue(A) ?A", _non_zero
    yield "optional.none() ?A", Optional
    yield "optional.unwrap(list<?A>) list<A>", _unwrapped
    yield "list<?A>.unwrapOpt() list<A>", _unwrapped
    yield "list<A>.first() ?A", lambda a: Optional(a[0], True) if a else Optional()
    yield "list<A>.last() ?A", lambda a: Optional(a[-1], True) if a else Optional()
    yield "?A.hasValue() bool", lambda a: a.present
    yield "?A.value() A", _value
    yield "?A.or(?A) ?A", lambda a, b: a if a.present else b
    yield "?A.orValue(A) A", lambda a, b: a.value if a.present else b


_SIGNATURE: Final = re.compile(r"(?P<name>.+?)\((?P<parameters>[^()]*)\) (?P<result>.+)")
NAMESPACES: Final = frozenset({"optional", "sets", "strings", "format", "jsonpatch"})
CHARGES: Final = {"check": authorization.CHECK_COST}
"""What functions cost beside the one of every call."""


def _overload(signature: str, compute: Callable[..., Any]) -> Overload:
    match = _SIGNATURE.fullmatch(signature)
    assert match is not None, signature
    name, parameters = match["name"], [p for p in re.split(r",\s+", match["parameters"]) if p]
    receiver, dot, method = name.rpartition(".")
    called_on = bool(dot) and receiver not in NAMESPACES and name != "ip.isCanonical"
    if called_on:
        parameters = [receiver, *parameters]
        name = method
    return Overload(name, called_on, tuple(map(parse_type, parameters)), parse_type(match["result"]), compute)


@cache
def functions() -> Mapping[tuple[str, bool], list[Overload]]:
    """All overloads, by name and whether they are called on a value."""
    found: dict[tuple[str, bool], list[Overload]] = {}
    for signature, compute in _table():
        overload = _overload(signature, compute)
        found.setdefault((overload.name, overload.on_value), []).append(overload)
    return found


def accepts(wanted: Type, value: Any) -> bool:
    """Whether a value can be given to a parameter; decided when it runs, where the checker could not."""
    if len(wanted.name) == 1 or wanted.name == "dyn":
        return True
    return type_name(value) == wanted.name
