"""Event (core/v1): something that happened to an object, told for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, invalid_value, required
from podling.api.meta import parse_time
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.printing import UNKNOWN, doc, duration, name, name_column, since
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import common, object_meta
from podling.store.types import Object

_MAX_NOTE: Final = 1024
_MAX_WORD: Final = 128
_NEVER_CHANGED: Final[Sequence[tuple[str, Any]]] = (
    ("involvedObject", {}),
    ("reason", ""),
    ("message", ""),
    ("source", {}),
    ("firstTimestamp", None),
    ("lastTimestamp", None),
    ("count", 0),
    ("reason", ""),
    ("type", ""),
    ("eventTime", None),
    ("action", ""),
    ("related", None),
    ("reportingController", ""),
    ("reportingInstance", ""),
)
"""Fields by their names in errors (of both APIs, and one of them twice), and what they are where they are not set."""


def validate(write: Write) -> list[FieldError]:
    """The old API holds an event to its namespace, and to the new rules only where it looks like a new event."""
    errors = rules(write.new, "reportingComponent")
    return common(write) + errors if write.old is not None else errors or object_meta(write, names.segment_name)


def rules(event: Object, reporter: str) -> list[FieldError]:
    """Rules of both APIs (`legacyValidateEvent`); `reporter` is how the asking API calls `reportingComponent`."""
    namespace = text(part(event, "metadata"), "namespace")
    involved = text(part(event, "involvedObject"), "namespace")
    if event.get("eventTime") is None:
        fits = involved == namespace if involved else namespace in ("", "default")
        return [] if fits else [_elsewhere(involved)]
    errors = [] if involved or namespace in ("default", "kube-system") else [_elsewhere(involved)]
    controller, instance = text(event, "reportingComponent"), text(event, "reportingInstance")
    if not controller:
        errors.append(required(reporter))
    errors += fields.check(reporter, controller, names.qualified_name)
    for path in ("reportingInstance", "action", "reason"):
        word = instance if path == "reportingInstance" else text(event, path)
        if not word:
            errors.append(required(path))
        if len(word.encode()) > _MAX_WORD:
            errors.append(invalid_value(path, "", f"can have at most {_MAX_WORD} characters"))
    if len(text(event, "message").encode()) > _MAX_NOTE:
        errors.append(invalid_value("message", "", f"can have at most {_MAX_NOTE} characters"))
    return errors


def _elsewhere(namespace: str) -> FieldError:
    return invalid_value("involvedObject.namespace", namespace, "does not match event.namespace")


def new_rules(event: Object) -> list[FieldError]:
    """What events.k8s.io asks of a new event besides."""
    errors = series_rules(event)
    if event.get("eventTime") is None:
        errors.append(required("eventTime"))
    kind = text(event, "type")
    if kind not in ("Normal", "Warning"):
        errors.append(invalid_value("type", "", f"has invalid value: {kind}"))
    for key in ("firstTimestamp", "lastTimestamp", "count"):
        if event.get(key):
            errors.append(invalid_value(key, "", "needs to be unset"))
    if any(part(event, "source").values()):
        errors.append(invalid_value("source", "", "needs to be unset"))
    return errors


def series_rules(event: Object) -> list[FieldError]:
    series: Object | None = event.get("series")
    if series is None:
        return []
    errors = [] if (series.get("count") or 0) >= 2 else [invalid_value("series.count", "", "should be at least 2")]
    return errors if series.get("lastObservedTime") else [*errors, required("series.lastObservedTime")]


def change_rules(event: Object, old: Object) -> list[FieldError]:
    """What it asks of a change: an event is told once; only how often it was seen may change."""
    errors = series_rules(event) if event.get("series") != old.get("series") else []
    for path, unset in _NEVER_CHANGED:
        key = "reportingComponent" if path == "reportingController" else path
        errors += fields.immutable(path, event.get(key, unset), old.get(key, unset))
    return errors


def _columns() -> tuple[Column, ...]:
    return (
        Column("Last Seen", description=doc("core.v1.Event.lastTimestamp")),
        Column("Type", description=doc("core.v1.Event.type")),
        Column("Reason", description=doc("core.v1.Event.reason")),
        Column("Object", description=doc("core.v1.Event.involvedObject")),
        Column("Subobject", description=doc("core.v1.ObjectReference.fieldPath"), priority=1),
        Column("Source", description=doc("core.v1.Event.source"), priority=1),
        Column("Message", description=doc("core.v1.Event.message")),
        Column("First Seen", description=doc("core.v1.Event.firstTimestamp"), priority=1),
        Column("Count", description=doc("core.v1.Event.count"), priority=1),
        name_column(priority=1),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    involved = part(obj, "involvedObject")
    about = text(involved, "kind").lower()
    if named := text(involved, "name"):
        about += f"/{named}"
    first = _first_seen(obj, now)
    return [
        _last_seen(obj, first, now),
        text(obj, "type"),
        text(obj, "reason"),
        about,
        text(involved, "fieldPath"),
        _source(obj),
        text(obj, "message").strip(),
        first,
        _count(obj),
        name(obj),
    ]


def _first_seen(obj: Object, now: datetime) -> str:
    return since(obj.get("firstTimestamp") or obj.get("eventTime"), now)


def _last_seen(obj: Object, first: str, now: datetime) -> str:
    series: Object | None = obj.get("series")
    if series is not None:
        return since(series.get("lastObservedTime"), now)
    last = obj.get("lastTimestamp")
    return duration((now - parse_time(last)).total_seconds()) if last else first or UNKNOWN


def _count(obj: Object) -> int:
    series: Object | None = obj.get("series")
    return obj.get("count") or 1 if series is None else series.get("count") or 0


def _source(obj: Object) -> str:
    source = part(obj, "source")
    component = text(source, "component") or text(obj, "reportingComponent")
    host = text(source, "host") or text(obj, "reportingInstance")
    return f"{component}, {host}" if host else component


def _involved(key: str) -> Callable[[Object], str]:
    return lambda obj: text(part(obj, "involvedObject"), key)


def _top(key: str) -> Callable[[Object], str]:
    return lambda obj: text(obj, key)


def _reporter(obj: Object) -> str:
    return text(part(obj, "source"), "component") or text(obj, "reportingComponent")


def selectable() -> dict[str, Callable[[Object], str]]:
    keys = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    found = {f"involvedObject.{key}": _involved(key) for key in keys}
    return {**found, **{key: _top(key) for key in ("reason", "reportingComponent", "type")}, "source": _reporter}


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="Event",
        plural="events",
        singular="event",
        namespaced=True,
        schema="io.k8s.api.core.v1.Event",
        short_names=("ev",),
        strategy=Strategy(validate=validate, generation=None, create_on_update=True),
        columns=_columns(),
        row=row,
        selectable=selectable(),
        indexed=("involvedObject.uid", "involvedObject.name"),
    )
