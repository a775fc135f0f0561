"""`resource.Quantity`: parsing, comparison and canonical form (k8s.io/apimachinery/pkg/api/resource).

A quantity is exact to a billionth (what is finer is rounded away from zero). Go keeps it as a scaled integer; here it
is a plain `int` of nano-units, which Python neither overflows nor rounds.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

NANO = 10**9
_MAX = (2**63 - 1) * NANO

FORMAT_ERROR = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_ERROR = "unable to parse quantity's suffix"
NUMBER_ERROR = "unable to parse numeric part of quantity"

_SYNTAX = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?([eEinumkKMGTP]*[-+]?\d*)", re.ASCII)
_EXPONENT = re.compile(r"[eE]([-+]?\d+)", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX = {exponent: suffix for suffix, exponent in _BINARY.items()}
_LONGEST_EXPONENT = 6
"""Digits of an exponent that are looked at: more would only make a huge power of ten."""
_GREATEST_EXPONENT = 40
"""Powers of ten beyond this count as the greatest amount; Go would compute with them."""
_LONGEST = 128
"""Characters of a quantity. Go has no limit; nobody writes more, and what is parsed is remembered."""
_DECIMAL_DIGITS = 18
_BINARY_DIGITS = 14
"""Up to so many digits Go uses an int64, and may keep the text; in binary each ten bits of the suffix cost three."""


class Format(StrEnum):
    DECIMAL_SI = "DecimalSI"
    BINARY_SI = "BinarySI"
    DECIMAL_EXPONENT = "DecimalExponent"


class QuantityError(ValueError):
    """The text is no quantity; the message is Go's."""


class Quantity(NamedTuple):
    """An amount in billionths, and the notation that it was written in. Compare `nanos`."""

    nanos: int
    format: Format = Format.DECIMAL_SI

    @property
    def value(self) -> int:
        """Whole units, rounded away from zero as Go's `Value()`."""
        return _divide_away_from_zero(self.nanos, NANO)

    @property
    def milli(self) -> int:
        """Thousandths, rounded away from zero as Go's `MilliValue()`."""
        return _divide_away_from_zero(self.nanos, NANO // 1000)

    def __str__(self) -> str:
        return _text(self.nanos, self.format)


def _divide_away_from_zero(dividend: int, divisor: int) -> int:
    quotient = -(-abs(dividend) // divisor)
    return quotient if dividend >= 0 else -quotient


def _scale(suffix: str) -> tuple[int, int, Format]:
    """Base, exponent and notation of a suffix."""
    if suffix in _DECIMAL:
        return 10, _DECIMAL[suffix], Format.DECIMAL_SI
    if suffix in _BINARY:
        return 2, _BINARY[suffix], Format.BINARY_SI
    exponent = _EXPONENT.fullmatch(suffix)
    if exponent is None or len(exponent[1]) > _LONGEST_EXPONENT:
        raise QuantityError(SUFFIX_ERROR)
    return 10, int(exponent[1]), Format.DECIMAL_EXPONENT


@lru_cache(maxsize=4096)
def parse(text: str) -> Quantity:
    """Raises QuantityError. A plain number (`0.5`) is a quantity too."""
    match = _SYNTAX.fullmatch(text)
    if match is None or not text:
        raise QuantityError(FORMAT_ERROR)
    if len(text) > _LONGEST:
        raise QuantityError(NUMBER_ERROR)
    sign, whole, fraction, suffix = match.groups()
    if not whole and not fraction:
        raise QuantityError(FORMAT_ERROR if suffix or not sign else NUMBER_ERROR)
    base, exponent, notation = _scale(suffix)
    digits = int(whole + (fraction or ""))
    nanos = _scaled(digits, base, exponent, len(fraction or ""))
    return Quantity(-nanos if sign == "-" else nanos, notation)


def _scaled(digits: int, base: int, exponent: int, decimals: int) -> int:
    """`digits * base**exponent / 10**decimals` in nano-units, rounded up; a binary amount is at most 2^63-1."""
    if not digits:
        return 0
    if base == 10 and exponent - decimals > _GREATEST_EXPONENT:
        return _MAX
    if base == 10 and exponent - decimals < -9 - len(str(digits)):
        return 1
    numerator = digits * NANO * (base**exponent if exponent > 0 else 1)
    denominator = 10**decimals * (base**-exponent if exponent < 0 else 1)
    nanos = -(-numerator // denominator)
    return min(nanos, _MAX) if base == 2 else nanos


def of(value: int | float | str) -> Quantity:
    """A quantity from JSON, where it may be a number."""
    if isinstance(value, str):
        return parse(value.strip())
    return parse(str(value) if isinstance(value, int) else repr(value).replace("e+", "e"))


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """How the API server writes the quantity: `1000m` is `1`, `0.5` is `500m`, `1024Mi` is `1Gi`. Raises QuantityError.

    What Go holds for canonical already it writes as it came, and by its rule of thumb so is `+1` or `01Mi`.
    """
    quantity = parse(text)
    return text if _is_kept(text) else str(quantity)


def _is_kept(text: str) -> bool:
    match = _SYNTAX.fullmatch(text)
    if match is None:
        return False
    _, whole, fraction, suffix = match.groups()
    _, exponent, notation = _scale(suffix)
    whole, fraction = whole.lstrip("0") or "0", fraction or ""
    digits = whole + fraction
    if notation is Format.BINARY_SI:
        is_short = not fraction and len(whole) + int(exponent * 0.3) <= _BINARY_DIGITS
        return is_short and int(whole) % 8 != 0
    scale = exponent - len(fraction)
    is_short = len(digits) <= _DECIMAL_DIGITS and scale >= -9
    return is_short and scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"


def _text(nanos: int, notation: Format) -> str:
    if not nanos:
        return "0"
    binary = notation is Format.BINARY_SI and abs(nanos) >= 1024 * NANO and nanos % NANO == 0
    return _binary_text(nanos // NANO) if binary else _decimal_text(nanos, notation)


def _binary_text(units: int) -> str:
    exponent = 0
    while units % 1024 == 0:
        units //= 1024
        exponent += 10
    return f"{units}{_BINARY_SUFFIX.get(exponent, '')}"


def _decimal_text(nanos: int, notation: Format) -> str:
    exponent = -9
    while nanos % 1000 == 0:
        nanos //= 1000
        exponent += 3
    if notation is Format.DECIMAL_EXPONENT:
        return f"{nanos}e{exponent}" if exponent else str(nanos)
    while exponent > max(_DECIMAL_SUFFIX):
        nanos *= 1000
        exponent -= 3
    return f"{nanos}{_DECIMAL_SUFFIX[exponent]}"
