"""Event (events.k8s.io/v1): the same stored objects as core events, with other names for some fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from podling.api.errors import FieldError, invalid
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.core import event
from podling.kinds.validation.meta import changed, common, whole
from podling.store.types import Object

_TO_CORE: Final = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_FROM_CORE: Final = {core: name for name, core in _TO_CORE.items()}
_ALWAYS: Final[Object] = {"involvedObject": {}, "source": {}, "reportingComponent": "", "reportingInstance": ""}
"""Fields that the core API shows when they are empty, and this one hides or shows (`source`)."""


def to_core(obj: Object) -> Object:
    renamed = {_TO_CORE.get(key, key): value for key, value in obj.items()}
    times = {"firstTimestamp": None, "lastTimestamp": None, "eventTime": None}
    return {**times, **_ALWAYS, **renamed, "apiVersion": "v1"}


def from_core(obj: Object) -> Object:
    shown = {_FROM_CORE.get(k, k): v for k, v in obj.items() if v != ""}
    return {**shown, "apiVersion": "events.k8s.io/v1"}


def validate(write: Write) -> list[FieldError]:
    """The paths, and the kind that is refused, are those of the core API: Kubernetes checks the stored form."""
    new = to_core(write.new)
    errors = common(write) + event.rules(new, "reportingController")
    if write.old is None:
        errors += whole(write) + event.new_rules(new)
    else:
        errors += changed(write) + event.change_rules(new, to_core(write.old))
    if errors:
        raise invalid("Event", "", write.new["metadata"].get("name") or "", errors)
    return []


def _selectable() -> dict[str, Callable[[Object], str]]:
    renamed = {"reportingComponent": "reportingController"}
    functions = event.selectable()
    return {
        renamed.get(k, k).replace("involvedObject.", "regarding."): f for k, f in functions.items() if k != "source"
    }


def resource() -> Resource:
    printed = event.resource()
    return Resource(
        group="events.k8s.io",
        version="v1",
        kind="Event",
        plural="events",
        singular="event",
        namespaced=True,
        schema="io.k8s.api.events.v1.Event",
        short_names=("ev",),
        storage="events",
        to_storage=to_core,
        from_storage=from_core,
        strategy=Strategy(validate=validate, generation=None, create_on_update=True),
        columns=printed.columns,
        row=lambda obj, now: event.row(to_core(obj), now),
        selectable=_selectable(),
    )
