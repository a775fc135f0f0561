"""Rules that put a path before a value: the building blocks of every kind's validation.

Lists of `FieldError` are concatenated in Kubernetes' order, because clients print them in that order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from podling.api.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from podling.kinds.validation import names
from podling.store.types import Object

IMMUTABLE: Final = "field is immutable"
NON_NEGATIVE: Final = "must be greater than or equal to 0"
ANNOTATIONS_LIMIT: Final = 256 * 1024


def each(path: str, items: Sequence[Any] | None) -> Iterator[tuple[str, Any]]:
    """The items of a list, each with its path: `spec.containers[0]`."""
    for index, item in enumerate(items or ()):
        yield f"{path}[{index}]", item


def text(obj: Mapping[str, Any], key: str) -> str:
    """A string field of Go's: absent and empty are the same."""
    return obj.get(key) or ""


def part(obj: Mapping[str, Any], *keys: str) -> Object:
    """A nested object, `{}` where it is absent."""
    found: Any = obj
    for key in keys:
        found = found.get(key) or {}
    return found


def entries(obj: Mapping[str, Any], key: str) -> list[Any]:
    """A list field, `[]` where it is absent."""
    return obj.get(key) or []


def without(obj: Object, *keys: str) -> Object:
    return {k: v for k, v in obj.items() if k not in keys}


_MAPS: Final = ("limits", "matchLabels", "nodeSelector", "overhead", "requests")
"""Maps without entries are no maps, to Go; other empty objects are something."""


def comparable(value: Any) -> Any:
    """The value without what is absent or empty to Go: what it is by Go's semantic equality."""
    if isinstance(value, list):
        return [comparable(item) for item in cast(list[Any], value)]
    if not isinstance(value, dict):
        return value
    held: Object = {key: comparable(inner) for key, inner in cast(Object, value).items()}
    return {k: v for k, v in held.items() if v not in (None, "", []) and (v != {} or k not in _MAPS)}


def says(path: str, value: Any, messages: Sequence[str]) -> list[FieldError]:
    """Each sentence of a name rule as an error of the value at `path`."""
    return [invalid_value(path, value, message) for message in messages]


def check(path: str, value: str, rule: Callable[[str], list[str]]) -> list[FieldError]:
    return says(path, value, rule(value))


def new_ip(path: str, value: str, known: Sequence[str] = ()) -> list[FieldError]:
    """The rule for an address; one that the stored object has already stays as it is."""
    return [] if value in known else check(path, value, names.ip)


def new_cidr(path: str, value: str, known: Sequence[str] = ()) -> list[FieldError]:
    return [] if value in known else check(path, value, names.cidr)


def check_required(path: str, value: str, rule: Callable[[str], list[str]]) -> list[FieldError]:
    """The rule for a value that must be there."""
    return check(path, value, rule) if value else [required(path)]


def domain_prefixed_path(path: str, value: str) -> list[FieldError]:
    """`example.com/some/path`: how controllers name themselves."""
    if not value:
        return [required(path)]
    domain, _, rest = value.partition("/")
    if not domain or not rest:
        return [invalid_value(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    return says(path, domain, names.dns1123_subdomain(domain)) + says(path, rest, names.http_path_in_domain(rest))


def non_negative(path: str, value: Any) -> list[FieldError]:
    return [invalid_value(path, value, NON_NEGATIVE)] if value is not None and value < 0 else []


def positive(path: str, value: Any) -> list[FieldError]:
    return [invalid_value(path, value, "must be greater than 0")] if value is not None and value <= 0 else []


def one_of(path: str, value: Any, valid: Sequence[str]) -> list[FieldError]:
    """`valid` in the order in which Kubernetes lists it."""
    return [] if value in valid else [not_supported(path, value, valid)]


def one_of_required(path: str, value: str, valid: Sequence[str]) -> list[FieldError]:
    return one_of(path, value, valid) if value else [required(path)]


def immutable(path: str, new: Any, old: Any, detail: str = IMMUTABLE) -> list[FieldError]:
    """Whether a field stayed as it was; absent and empty are the same, as they are to Go's semantic equality."""
    return [] if (new or None) == (old or None) else [invalid_value(path, new, detail)]


def immutable_selector(spec: Object, before: Object) -> list[FieldError]:
    """Whether a spec selects what it selected before."""
    new, old = (s.get("selector") and shown_selector(s["selector"]) for s in (spec, before))
    return immutable("spec.selector", new, old)


def port(path: str, value: int) -> list[FieldError]:
    return says(path, value, names.port_number(value))


def port_or_name(path: str, value: Any) -> list[FieldError]:
    """An IntOrString that names a port."""
    if isinstance(value, int):
        return port(path, value)
    return says(path, value, names.port_name(value or ""))


def labels(path: str, values: Mapping[str, str] | None) -> list[FieldError]:
    errors: list[FieldError] = []
    for key, value in (values or {}).items():
        errors += check(path, key, names.qualified_name)
        errors += check(path, value, names.label_value)
    return errors


def annotation_map(path: str, values: Mapping[str, str] | None) -> list[FieldError]:
    errors: list[FieldError] = []
    size = 0
    for key, value in (values or {}).items():
        errors += says(path, key, names.qualified_name(key.lower()))
        size += len(key.encode()) + len(value.encode())
    if size > ANNOTATIONS_LIMIT:
        errors.append(
            FieldError("FieldValueTooLong", path, f"Too long: may not be more than {ANNOTATIONS_LIMIT} bytes")
        )
    return errors


_SELECTOR_VALUES: Final = {"In": True, "NotIn": True, "Exists": False, "DoesNotExist": False}


def label_selector(path: str, selector: Object | None, *, check_values: bool = True) -> list[FieldError]:
    """A `metav1.LabelSelector`. Some kinds accept values that no label can have (`check_values=False`)."""
    if selector is None:
        return []
    errors: list[FieldError] = []
    for key, value in part(selector, "matchLabels").items():
        errors += check(f"{path}.matchLabels", key, names.qualified_name)
        if check_values:
            errors += check(f"{path}.matchLabels", value, names.label_value)
    for at, expression in each(f"{path}.matchExpressions", selector.get("matchExpressions")):
        errors += selector_requirement(at, expression, check_values=check_values)
    return errors


def selector_operator(path: str, expression: Object, *, known_only: bool = True) -> list[FieldError]:
    """The operator of a selector's requirement, and whether it has values."""
    operator, values = text(expression, "operator"), entries(expression, "values")
    wants_values = _SELECTOR_VALUES.get(operator)
    if wants_values is None:
        return [invalid_value(f"{path}.operator", operator, "not a valid selector operator")] if known_only else []
    if wants_values and not values:
        return [required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")]
    if values and not wants_values:
        return [forbidden_field(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")]
    return []


def selector_requirement(
    path: str, expression: Object, *, check_values: bool = True, known_only: bool = True
) -> list[FieldError]:
    """A `metav1.LabelSelectorRequirement`."""
    errors = selector_operator(path, expression, known_only=known_only)
    values = entries(expression, "values")
    errors += check(f"{path}.key", text(expression, "key"), names.qualified_name)
    if check_values:
        for at, value in each(f"{path}.values", values):
            errors += check(at, value, names.label_value)
    return errors


def shown_selector(selector: Object) -> Object:
    """A `metav1.LabelSelector` as Go prints it."""
    shown: Object = {}
    if labels_ := go_map(selector.get("matchLabels")):
        shown["matchLabels"] = labels_
    if expressions := entries(selector, "matchExpressions"):
        order = ("key", "operator", "values")
        shown["matchExpressions"] = [{k: e[k] for k in order if e.get(k) or k != "values"} for e in expressions]
    return shown


def selector_empty(selector: Object | None) -> bool:
    return not selector or not (selector.get("matchLabels") or selector.get("matchExpressions"))


def int_or_percent(path: str, value: Any) -> list[FieldError]:
    """An IntOrString that is a number of pods or a share of them."""
    if isinstance(value, str):
        return says(path, value, names.percent(value))
    return non_negative(path, value)


def at_most_100_percent(path: str, value: Any) -> list[FieldError]:
    share = percent_of(value)
    return [invalid_value(path, value, "must not be greater than 100%")] if share is not None and share > 100 else []


def percent_of(value: Any) -> int | None:
    """The number before the percent sign; `None` for numbers and for malformed text."""
    found = re.fullmatch(r"([0-9]+)%", value) if isinstance(value, str) else None
    return int(found[1]) if found else None


def int_or_percent_is_zero(value: Any) -> bool:
    return value == 0 if isinstance(value, int) else percent_of(value) == 0


def go_map(values: Mapping[str, Any] | None) -> Object | None:
    """A map as Go prints it: by key, `null` when it is empty."""
    return dict(sorted(values.items())) if values else None
