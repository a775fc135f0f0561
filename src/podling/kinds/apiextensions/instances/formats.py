"""The formats of strings that a custom resource's schema may ask for (`kube-openapi/pkg/validation/strfmt`)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import date
from typing import Final

from podling.api.gourl import request_uri
from podling.api.regexp import regexp
from podling.api.structs import DecodeError, parse_duration

_HOST_CHARACTER: Final = r"a-zA-Z0-9\p{S}\p{L}"
_HOSTNAME: Final = (
    rf"^([{_HOST_CHARACTER}]((-?[{_HOST_CHARACTER}]{{0,62}})?)"
    rf"|([{_HOST_CHARACTER}](([{_HOST_CHARACTER}-]{{0,61}}[{_HOST_CHARACTER}])?)(\.))+([a-zA-Z\p{{L}}]){{2,63}})$"
)
_ATOM: Final = r"[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*"
_ADDRESS: Final = rf'({_ATOM}|"(\\.|[^"\\])*")@({_ATOM}|\[[^\[\]]*\])'
_EMAIL: Final = re.compile(rf"\s*({_ADDRESS}|[^<>@,;:]*<{_ADDRESS}>)\s*")
_MAC: Final = re.compile(
    r"([0-9a-fA-F]{2}:){5}([0-9a-fA-F]{2}:){0,14}[0-9a-fA-F]{2}|([0-9a-fA-F]{2}-){5}([0-9a-fA-F]{2}-){0,14}[0-9a-fA-F]{2}"
    r"|([0-9a-fA-F]{4}\.){2}([0-9a-fA-F]{4}\.){0,7}[0-9a-fA-F]{4}",
    re.ASCII,
)
_MAC_SIZES: Final = (6, 8, 20)
_HEX_COLOR: Final = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})", re.ASCII)
_RGB: Final = r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*"
_RGB_COLOR: Final = re.compile(rf"rgb\({_RGB},{_RGB},{_RGB}\)", re.ASCII)
_OBJECT_ID: Final = re.compile(r"[0-9a-fA-F]{24}", re.ASCII)
_SSN: Final = re.compile(r"\d{3}[- ]\d{2}[- ]\d{4}", re.ASCII)
_CREDIT_CARD: Final = re.compile(
    r"4[0-9]{12}([0-9]{3})?|5[1-5][0-9]{14}|6(011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}"
    r"|3(0[0-5]|[68][0-9])[0-9]{11}|(2131|1800|35\d{3})\d{11}",
    re.ASCII,
)
_BASE64: Final = re.compile(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(.\d+)?(z|[+-]\d\d:\d\d)", re.ASCII)
_LENGTH: Final = re.compile(r"\d+\s*([A-Za-zµ]+)", re.ASCII)
_UNITS: Final = frozenset({"ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk"})
_LONG_UNITS: Final = ("nano", "micro", "milli", "sec", "min", "hour", "day", "week")
_NAME: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SHORT_NAME: Final = re.compile(_NAME, re.ASCII)
_LONG_NAME: Final = re.compile(rf"{_NAME}(\.{_NAME})*", re.ASCII)
_LEADING_ZEROS: Final = re.compile(r"(?<![\w:])0+(?=\d)", re.ASCII)


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return fits


def _hostname(text: str) -> bool:
    parts = text.encode().split(b".")
    return len(text.encode()) <= 255 and max(map(len, parts)) <= 63 and regexp(_HOSTNAME).matches(text)


def _is_address(text: str) -> bool:
    return "%" not in text and _parses(ipaddress.ip_address)(text)


def _sloppy(text: str) -> str:
    """Numbers of an IPv4 address may have leading zeros, which mean nothing."""
    return _LEADING_ZEROS.sub("", text)


def _cidr(text: str) -> bool:
    address, slash, bits = _sloppy(text).partition("/")
    if not slash or not (bits.isascii() and bits.isdecimal()) or not _is_address(address):
        return False
    return int(bits) <= ipaddress.ip_address(address).max_prefixlen


def _mac(text: str) -> bool:
    return _MAC.fullmatch(text) is not None and sum(map(str.isalnum, text)) // 2 in _MAC_SIZES


def _date(text: str) -> bool:
    return _DATE.fullmatch(text) is not None and _parses(date.fromisoformat)(text)


def _date_time(text: str) -> bool:
    day, *rest = text.lower().split("t")
    return bool(rest) and _date(day) and _CLOCK.fullmatch(rest[0]) is not None


def _duration(text: str) -> bool:
    try:
        parse_duration(text)
    except DecodeError:
        units = [match[1].lower() for match in _LENGTH.finditer(text)]
        return any(unit in _UNITS or unit.startswith(_LONG_UNITS) for unit in units)
    return True


def _uuid(version: str = "[0-9a-f]", variant: str = "[0-9a-f]") -> Callable[[str], bool]:
    four = "[0-9a-f]{4}-?"
    pattern = f"[0-9a-f]{{8}}-?{four}{version}[0-9a-f]{{3}}-?{variant}[0-9a-f]{{3}}-?[0-9a-f]{{12}}"
    return _matches(re.compile(pattern, re.ASCII | re.IGNORECASE))


def _checksum_10(digits: str) -> bool:
    if re.fullmatch(r"\d{9}[\dX]", digits, re.ASCII) is None:
        return False
    values = [10 if digit == "X" else int(digit) for digit in digits]
    return sum(value * (10 - at) for at, value in enumerate(values)) % 11 == 0


def _checksum_13(digits: str) -> bool:
    if re.fullmatch(r"\d{13}", digits, re.ASCII) is None:
        return False
    return sum(int(digit) * (3 if at % 2 else 1) for at, digit in enumerate(digits)) % 10 == 0


def _isbn(*checks: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: any(check(re.sub(r"[\s-]", "", text)) for check in checks)


def _credit_card(text: str) -> bool:
    number = re.sub(r"\D", "", text, flags=re.ASCII)
    if _CREDIT_CARD.fullmatch(number) is None:
        return False
    digits = map(int, reversed(number))
    return sum(digit * 2 - 9 * (digit > 4) if at % 2 else digit for at, digit in enumerate(digits)) % 10 == 0


FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "bsonobjectid": _matches(_OBJECT_ID),
    "uri": _parses(request_uri),
    "email": _matches(_EMAIL),
    "hostname": _hostname,
    "ipv4": lambda text: "." in text and _is_address(_sloppy(text)),
    "ipv6": lambda text: ":" in text and _is_address(text),
    "cidr": _cidr,
    "mac": _mac,
    "uuid": _uuid(),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4", "[89ab]"),
    "uuid5": _uuid("5", "[89ab]"),
    "isbn": _isbn(_checksum_10, _checksum_13),
    "isbn10": _isbn(_checksum_10),
    "isbn13": _isbn(_checksum_13),
    "creditcard": _credit_card,
    "ssn": _matches(_SSN),
    "hexcolor": _matches(_HEX_COLOR),
    "rgbcolor": _matches(_RGB_COLOR),
    "byte": _matches(_BASE64),
    "password": lambda _text: True,
    "date": _date,
    "duration": _duration,
    "datetime": _date_time,
    "k8sshortname": lambda text: len(text) <= 63 and _SHORT_NAME.fullmatch(text) is not None,
    "k8slongname": lambda text: len(text) <= 253 and _LONG_NAME.fullmatch(text) is not None,
}
"""Whether a text has the format, by its name without dashes; formats that are not named here are not checked."""
