"""`metav1.Condition`: the rules of the conditions that all newer kinds share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from podling.api.errors import FieldError, duplicate, invalid_value, required, too_long
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, text
from podling.store.types import Object

_STATUSES: Final = ("False", "True", "Unknown")
_REASON: Final = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_REASON_MESSAGE: Final = (
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
    "characters or '_,:', and must end with an alphanumeric character or '_'"
)
_LONGEST_REASON: Final = 1024
_LONGEST_MESSAGE: Final = 32 * 1024


def conditions(path: str, items: Sequence[Object] | None) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, condition in each(path, items):
        kind = text(condition, "type")
        if kind in seen:
            errors.append(duplicate(f"{at}.type", kind))
        seen.add(kind)
        errors += _condition(condition, at)
    return errors


def _condition(condition: Object, path: str) -> list[FieldError]:
    errors = fields.check(f"{path}.type", text(condition, "type"), names.qualified_name)
    errors += fields.one_of(f"{path}.status", text(condition, "status"), _STATUSES)
    generation = condition.get("observedGeneration") or 0
    if generation < 0:
        errors.append(invalid_value(f"{path}.observedGeneration", generation, "must be greater than or equal to zero"))
    if not condition.get("lastTransitionTime"):
        errors.append(required(f"{path}.lastTransitionTime"))
    errors += _reason(text(condition, "reason"), f"{path}.reason")
    if len(text(condition, "message").encode()) > _LONGEST_MESSAGE:
        errors.append(too_long(f"{path}.message", _LONGEST_MESSAGE))
    return errors


def _reason(reason: str, path: str) -> list[FieldError]:
    if not reason:
        return [required(path)]
    errors: list[FieldError] = []
    if not re.fullmatch(_REASON, reason, re.ASCII):
        says = names.regex_text(
            _REASON_MESSAGE, _REASON, "my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"
        )
        errors.append(invalid_value(path, reason, says))
    if len(reason) > _LONGEST_REASON:
        errors.append(too_long(path, _LONGEST_REASON))
    return errors
