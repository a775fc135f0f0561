"""When a Job gives up or is content before the plain counts say so: `podFailurePolicy` and `successPolicy`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from podling.api.errors import (
    FieldError,
    duplicate,
    go_value,
    invalid_value,
    omitted_value,
    required,
    too_long,
    too_many,
)
from podling.kinds.batch.internal import STRUCTS
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_ACTIONS: Final = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS: Final = ("In", "NotIn")
_STATUSES: Final = ("False", "True", "Unknown")
_MAX_RULES: Final = 20
_MAX_VALUES: Final = 255
_LONGEST_INDEXES: Final = 64 * 1024


def default(spec: Object) -> None:
    for rule in entries(part(spec, "podFailurePolicy"), "rules"):
        for pattern in entries(rule, "onPodConditions"):
            if not pattern.get("status"):
                pattern["status"] = "True"


def failure_policy(spec: Object, path: str) -> list[FieldError]:
    policy: Object | None = spec.get("podFailurePolicy")
    if policy is None:
        return []
    rules: Sequence[Object] = entries(policy, "rules")
    errors: list[FieldError] = []
    if len(rules) > _MAX_RULES:
        errors.append(too_many(f"{path}.podFailurePolicy.rules", len(rules), _MAX_RULES))
    held = {
        text(c, "name") for k in ("containers", "initContainers") for c in entries(part(spec, "template", "spec"), k)
    }
    for at, rule in each(f"{path}.podFailurePolicy.rules", rules):
        errors += _rule(rule, spec, held, at)
    return errors


def _choice(path: str, value: str, valid: Sequence[str]) -> list[FieldError]:
    """One of `valid`, which are told to those who give none."""
    if value:
        return fields.one_of(path, value, valid)
    return [required(path, f"valid values: [{' '.join(go_value(v) for v in valid)}]")]


def _rule(rule: Object, spec: Object, held: set[str], path: str) -> list[FieldError]:
    action = text(rule, "action")
    errors = _choice(f"{path}.action", action, _ACTIONS)
    if action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
        errors.append(invalid_value(f"{path}.action", action, "requires the backoffLimitPerIndex to be set"))
    codes, patterns = rule.get("onExitCodes"), entries(rule, "onPodConditions")
    if codes is not None:
        errors += _exit_codes(codes, held, f"{path}.onExitCodes")
    if len(patterns) > _MAX_RULES:
        errors.append(too_many(f"{path}.onPodConditions", len(patterns), _MAX_RULES))
    for at, pattern in each(f"{path}.onPodConditions", patterns):
        errors += fields.check(f"{at}.type", text(pattern, "type"), names.qualified_name)
        errors += _choice(f"{at}.status", text(pattern, "status"), _STATUSES)
    if codes is not None and patterns:
        errors.append(omitted_value(path, "specifying both OnExitCodes and OnPodConditions is not supported"))
    if codes is None and not patterns:
        errors.append(omitted_value(path, "specifying one of OnExitCodes and OnPodConditions is required"))
    return errors


def _exit_codes(codes: Object, held: set[str], path: str) -> list[FieldError]:
    operator, values = text(codes, "operator"), entries(codes, "values")
    errors = _choice(f"{path}.operator", operator, _OPERATORS)
    container = codes.get("containerName")
    if container is not None and container not in held:
        detail = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid_value(f"{path}.containerName", container, detail))
    if not values:
        errors.append(invalid_value(f"{path}.values", codes.get("values"), "at least one value is required"))
    elif len(values) > _MAX_VALUES:
        errors.append(too_many(f"{path}.values", len(values), _MAX_VALUES))
    return errors + _values(values, operator, f"{path}.values")


def _values(values: Sequence[int], operator: str, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[int] = set()
    for at, value in each(path, values):
        if operator == "In" and value == 0:
            errors.append(invalid_value(at, value, "must not be 0 for the In operator"))
        if value in seen:
            errors.append(duplicate(at, value))
        seen.add(value)
    if list(values) != sorted(values):
        errors.append(invalid_value(path, values, "must be ordered"))
    return errors


def success_policy(spec: Object, path: str) -> list[FieldError]:
    policy: Object | None = spec.get("successPolicy")
    if policy is None:
        return []
    at = f"{path}.successPolicy"
    if spec.get("completionMode") != "Indexed":
        return [invalid_value(at, STRUCTS.shown("SuccessPolicy", policy), "requires indexed completion mode")]
    rules: Sequence[Object] = entries(policy, "rules")
    errors: list[FieldError] = []
    if not rules:
        detail = "at least one rules must be specified when the successPolicy is specified"
        errors.append(required(f"{at}.rules", detail))
    if len(rules) > _MAX_RULES:
        errors.append(too_many(f"{at}.rules", len(rules), _MAX_RULES))
    completions = spec.get("completions") or 0
    for rule_at, rule in each(f"{at}.rules", rules):
        errors += _success_rule(rule, completions, rule_at)
    return errors


def _success_rule(rule: Object, completions: int, path: str) -> list[FieldError]:
    indexes, count = rule.get("succeededIndexes"), rule.get("succeededCount")
    errors: list[FieldError] = []
    if indexes is None and count is None:
        errors.append(required(path, "at least one of succeededCount or succeededIndexes must be specified"))
    total = 0
    if indexes is not None:
        if len(indexes) > _LONGEST_INDEXES:
            errors.append(too_long(f"{path}.succeededIndexes", _LONGEST_INDEXES))
        try:
            total = indexes_total(indexes, completions)
        except ValueError as error:
            detail = f"error parsing succeededIndexes: {error}"
            errors.append(invalid_value(f"{path}.succeededIndexes", indexes, detail))
    errors += fields.non_negative(f"{path}.succeededCount", count)
    if count is not None and count > completions:
        detail = f"must be less than or equal to {completions} (the number of specified completions)"
        errors.append(invalid_value(f"{path}.succeededCount", count, detail))
    if count is not None and indexes is not None and count > total:
        detail = (
            f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        )
        errors.append(invalid_value(f"{path}.succeededCount", count, detail))
    return errors


def indexes_total(indexes: str, completions: int) -> int:
    """How many indexes `1,3-5` names. Raises ValueError in Kubernetes' words."""
    total, previous = 0, -1
    for written in indexes.split(",") if indexes else ():
        first, last = interval(written, completions)
        if first <= previous:
            raise ValueError(f"non-increasing order, previous: {previous}, current: {first}")
        total += last - first + 1
        previous = last
    return total


def interval(written: str, completions: int) -> tuple[int, int]:
    """The first and the last index of `3-5`, or of `3`. Raises ValueError in Kubernetes' words."""
    limits = written.split("-")
    if len(limits) > 2:
        rule = "an index interval can have at most two parts separated by '-'"
        raise ValueError(f'the fragment "{written}" violates the requirement that {rule}')
    first, *rest = [_index(limit, completions) for limit in limits]
    if rest and rest[0] <= first:
        raise ValueError(f"non-increasing order, previous: {first}, current: {rest[0]}")
    return first, rest[0] if rest else first


def _index(text: str, completions: int) -> int:
    if re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII) is None:
        raise ValueError(f'cannot convert string to integer for index: "{text}"')
    if int(text) >= completions:
        raise ValueError(f'too large index: "{text}"')
    return int(text)
