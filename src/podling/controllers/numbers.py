"""Counts that may be given in percent, rounded as Kubernetes rounds them."""

from __future__ import annotations

import math
from fractions import Fraction


def scaled(value: int | str, total: int, *, round_up: bool) -> int:
    """An `intstr.IntOrString` (3 or "25%") as a count of `total`."""
    if isinstance(value, int):
        return value
    share = Fraction(int(value.removesuffix("%")), 100) * total
    return math.ceil(share) if round_up else math.floor(share)


def round_half_away(value: Fraction) -> int:
    """To the nearest integer, halves away from zero."""
    return math.floor(value + Fraction(1, 2)) if value >= 0 else math.ceil(value - Fraction(1, 2))
