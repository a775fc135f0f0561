"""The formats of strings that a custom resource's schema may ask for (`kube-openapi/pkg/validation/strfmt`)."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime
from typing import Final
from urllib.parse import urlsplit

from podling.api.structs import DecodeError, parse_duration

_LABEL: Final = r"[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?"
_HOSTNAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_EMAIL: Final = re.compile(r"[^@\s<>]+@[^@\s<>]+", re.ASCII)
_MAC: Final = re.compile(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}|([0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}", re.ASCII)
_HEX_COLOR: Final = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})", re.ASCII)
_RGB: Final = r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*"
_RGB_COLOR: Final = re.compile(rf"rgb\({_RGB},{_RGB},{_RGB}\)", re.ASCII)
_OBJECT_ID: Final = re.compile(r"[0-9a-fA-F]{24}", re.ASCII)
_SSN: Final = re.compile(r"\d{3}[- ]?\d{2}[- ]?\d{4}", re.ASCII)
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d)?([.,]\d+)?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
_DURATION: Final = re.compile(
    r"\d+\s*(ns|us|µs|ms|s|m|h|hr|hour|min|minute|sec|second|d|day|w|wk|week|milli|micro|nano)s?"
)
_SHORT_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_LONG_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_LONGEST_NAME: Final = 253


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _parses(parse: Callable[[str], object], *errors: type[Exception]) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, *errors):
            return False
        return True

    return fits


def _uri(text: str) -> bool:
    parts = urlsplit(text)
    return bool(text) and (bool(parts.scheme) or text.startswith("/"))


def _date_time(text: str) -> bool:
    if _DATE_TIME.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(re.sub(r"[.,]\d+", "", text).upper().replace(" ", "T"))
    except ValueError:
        return False
    return True


def _duration(text: str) -> bool:
    try:
        parse_duration(text)
    except DecodeError:
        return _DURATION.fullmatch(text) is not None
    return True


def _uuid(version: int | None) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        try:
            found = uuid.UUID(text)
        except ValueError:
            return False
        return version is None or found.version == version

    return fits


def _checksum_10(digits: str) -> bool:
    if re.fullmatch(r"\d{9}[\dX]", digits) is None:
        return False
    values = [10 if digit == "X" else int(digit) for digit in digits]
    return sum(value * (10 - at) for at, value in enumerate(values)) % 11 == 0


def _checksum_13(digits: str) -> bool:
    if re.fullmatch(r"\d{13}", digits) is None:
        return False
    return sum(int(digit) * (3 if at % 2 else 1) for at, digit in enumerate(digits)) % 10 == 0


def _isbn(*checks: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: any(check(re.sub(r"[\s-]", "", text)) for check in checks)


def _credit_card(text: str) -> bool:
    digits = [int(digit) for digit in re.sub(r"\D", "", text)]
    if not 13 <= len(digits) <= 19:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) if at % 2 else digit for at, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "bsonobjectid": _matches(_OBJECT_ID),
    "uri": _uri,
    "email": _matches(_EMAIL),
    "hostname": lambda text: len(text) <= _LONGEST_NAME and _HOSTNAME.fullmatch(text) is not None,
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "cidr": lambda text: "/" in text and _parses(lambda net: ipaddress.ip_network(net, strict=False))(text),
    "mac": _matches(_MAC),
    "uuid": _uuid(None),
    "uuid3": _uuid(3),
    "uuid4": _uuid(4),
    "uuid5": _uuid(5),
    "isbn": _isbn(_checksum_10, _checksum_13),
    "isbn10": _isbn(_checksum_10),
    "isbn13": _isbn(_checksum_13),
    "creditcard": _credit_card,
    "ssn": _matches(_SSN),
    "hexcolor": _matches(_HEX_COLOR),
    "rgbcolor": _matches(_RGB_COLOR),
    "byte": _base64,
    "password": lambda _text: True,
    "date": _parses(date.fromisoformat),
    "duration": _duration,
    "datetime": _date_time,
    "k8sshortname": _matches(_SHORT_NAME),
    "k8slongname": lambda text: len(text) <= _LONGEST_NAME and _LONG_NAME.fullmatch(text) is not None,
}
"""Whether a text has the format, by its name without dashes; formats that are not named here are not checked."""
