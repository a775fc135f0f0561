"""What every room reads of an object: its identity, owners, labels, times and conditions.

All functions read; none changes its argument. Those that "set" something return a new part to be put into a new
object, because stored objects are shared.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from podling.store.types import Object, Uid


def part(obj: Object | None, *path: str) -> Object:
    """The object at the path, `{}` where there is none."""
    for key in path:
        obj = (obj or {}).get(key)
    return obj or {}


def items(obj: Object | None, *path: str) -> Sequence[Object]:
    """The list of objects at the path, `[]` where there is none."""
    *way, last = path
    return part(obj, *way).get(last) or []


def metadata(obj: Object) -> Object:
    return cast(Object, obj.get("metadata") or {})


def spec(obj: Object) -> Object:
    return cast(Object, obj.get("spec") or {})


def status(obj: Object) -> Object:
    return cast(Object, obj.get("status") or {})


def name(obj: Object) -> str:
    return cast(str, metadata(obj).get("name", ""))


def namespace(obj: Object) -> str:
    return cast(str, metadata(obj).get("namespace", ""))


def uid(obj: Object) -> Uid:
    return Uid(metadata(obj).get("uid", ""))


def generation(obj: Object) -> int:
    return cast(int, metadata(obj).get("generation", 0))


def labels(obj: Object) -> Mapping[str, str]:
    return cast(Mapping[str, str], metadata(obj).get("labels") or {})


def annotations(obj: Object) -> Mapping[str, str]:
    return cast(Mapping[str, str], metadata(obj).get("annotations") or {})


def finalizers(obj: Object) -> Sequence[str]:
    return cast(Sequence[str], metadata(obj).get("finalizers") or [])


def deleting(obj: Object) -> bool:
    """Whether a delete was accepted and something (grace period, finalizers) still keeps the object."""
    return "deletionTimestamp" in metadata(obj)


def owner_references(obj: Object) -> Sequence[Object]:
    return cast(Sequence[Object], metadata(obj).get("ownerReferences") or [])


def controller_reference(obj: Object) -> Object | None:
    """The owner reference with `controller: true`: at most one."""
    for reference in owner_references(obj):
        if reference.get("controller"):
            return reference
    return None


def controlled_by(obj: Object, owner: Object) -> bool:
    reference = controller_reference(obj)
    return reference is not None and reference["uid"] == uid(owner)


def new_controller_reference(owner: Object) -> Object:
    """The owner reference that a controller writes (`metav1.NewControllerRef`)."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name(owner),
        "uid": uid(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def matches_labels(wanted: Mapping[str, str], have: Mapping[str, str]) -> bool:
    """Whether every wanted label is there with that value. An empty `wanted` matches everything."""
    return all(have.get(key) == value for key, value in wanted.items())


def matches_selector(selector: Object | None, have: Mapping[str, str]) -> bool:
    """`metav1.LabelSelector` against labels: `None` matches nothing, `{}` everything."""
    if selector is None:
        return False
    if not matches_labels(selector.get("matchLabels") or {}, have):
        return False
    return all(_matches_expression(expression, have) for expression in selector.get("matchExpressions") or ())


def _matches_expression(expression: Object, have: Mapping[str, str]) -> bool:
    key: str = expression["key"]
    match expression["operator"]:
        case "In":
            return key in have and have[key] in expression.get("values", ())
        case "NotIn":
            return key not in have or have[key] not in expression.get("values", ())
        case "Exists":
            return key in have
        case "DoesNotExist":
            return key not in have
        case _:
            return False


def timestamp(moment: datetime) -> str:
    """`metav1.Time`: RFC 3339 in UTC, whole seconds."""
    return f"{_in_utc(moment).isoformat(timespec='seconds')[:19]}Z"


def micro_timestamp(moment: datetime) -> str:
    """`metav1.MicroTime`: RFC 3339 in UTC with six decimals."""
    return f"{_in_utc(moment).isoformat(timespec='microseconds')[:26]}Z"


def _in_utc(moment: datetime) -> datetime:
    """`isoformat` writes this, less its offset, several times as fast as `strftime`, and every write has times."""
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def parse_time(text: str) -> datetime:
    """Of a `metav1.Time` or `MicroTime`."""
    return datetime.fromisoformat(text)


def conditions(obj: Object) -> Sequence[Object]:
    return cast(Sequence[Object], status(obj).get("conditions") or [])


def condition(obj: Object, type: str) -> Object | None:
    return find_condition(conditions(obj), type)


def find_condition(items: Iterable[Object], type: str) -> Object | None:
    for item in items:
        if item.get("type") == type:
            return item
    return None


def condition_is(obj: Object, type: str, value: str = "True") -> bool:
    found = condition(obj, type)
    return found is not None and found.get("status") == value


def without_empty(fields: Mapping[str, Any], *keep: str) -> Object:
    """The fields without zeros, blanks and empty containers, as Go's `omitempty` writes them, except `keep`."""
    return {key: value for key, value in fields.items() if key in keep or value not in (0, "", None, [], {}, False)}
