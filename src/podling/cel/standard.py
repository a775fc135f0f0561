"""The standard functions of CEL: arithmetic, comparisons, conversions, time."""

# The functions of the table are one-line lambdas over values that the checker has typed already.
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from podling.api.structs import DecodeError, parse_duration
from podling.cel.access import item_at
from podling.cel.values import CelError, TypeValue, UInt, contains, equal, to_string, type_name

INT_LOW, INT_HIGH = -(2**63), 2**63 - 1


UINT_HIGH = 2**64 - 1


def ranged(value: int, unsigned: bool = False) -> int:
    if unsigned:
        if not 0 <= value <= UINT_HIGH:
            raise CelError("unsigned integer overflow")
        return UInt(value)
    if not INT_LOW <= value <= INT_HIGH:
        raise CelError("integer overflow")
    return value


def _arithmetic(compute: Callable[[int, int], int]) -> Callable[[int, int], int]:
    return lambda a, b: ranged(compute(a, b), isinstance(a, UInt))


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
            if re.fullmatch(r"[+-]?\d+", value) is None or not INT_LOW <= int(value) <= INT_HIGH:
                raise CelError("type conversion error from 'string' to 'int'")
            return int(value)
        case datetime():
            return math.floor(value.timestamp())
        case timedelta():
            return math.floor(value.total_seconds())
        case float():
            if not math.isfinite(value) or not INT_LOW < value < INT_HIGH:
                raise CelError("integer overflow")
            return int(value)
        case _:
            return ranged(int(value))


def _to_uint(value: Any) -> int:
    if isinstance(value, str) and not value.isdecimal():
        raise CelError("type conversion error from 'string' to 'uint'")
    return ranged(int(value), unsigned=True)


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


def to_timestamp(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise CelError("type conversion error from 'string' to 'google.protobuf.Timestamp'") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moment(seconds: int) -> datetime:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        raise CelError("timestamp overflow") from None


def to_duration(value: str) -> timedelta:
    try:
        return timedelta(microseconds=parse_duration(value) / 1000)
    except DecodeError:
        raise CelError("type conversion error from 'string' to 'google.protobuf.Duration'") from None


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
    "getMilliseconds": lambda d: d // timedelta(milliseconds=1),
}


def _time_overloads() -> Iterable[tuple[str, Callable[..., Any]]]:
    for name, read in _TIME_PARTS.items():
        yield f"timestamp.{name}() int", lambda t, read=read: read(t.astimezone(UTC))
        yield f"timestamp.{name}(string) int", lambda t, zone, read=read: read(_zoned(t, zone))
    for name, read in _DURATION_PARTS.items():
        yield f"duration.{name}() int", read


def overloads() -> Iterable[tuple[str, Callable[..., Any]]]:
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
    yield "-_(int) int", lambda a: ranged(-a)
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
    yield "@in(A, list<A>) bool", contains
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
    yield "timestamp(string) timestamp", to_timestamp
    yield "timestamp(timestamp) timestamp", lambda a: a
    yield "timestamp(int) timestamp", _moment
    yield "duration(string) duration", to_duration
    yield "duration(duration) duration", lambda a: a
    yield "dyn(A) dyn", lambda a: a
    yield "type(A) type", lambda a: TypeValue(type_name(a))
    yield from _time_overloads()
