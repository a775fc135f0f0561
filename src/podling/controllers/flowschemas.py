"""Priority and fairness: every FlowSchema says whether its priority level is there (`Dangling`), and what must not be
missing is made again. That is all: requests are not queued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers import bootstrap
from podling.controllers.actions import Action, Create
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, key_of, looking
from podling.controllers.statuses import replace_condition, write_status
from podling.store.types import Change, Object

FLOW_SCHEMAS = "flowschemas.flowcontrol.apiserver.k8s.io"
LEVELS = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io"
_MANDATORY = ("catch-all", "exempt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    flow: Object | None
    has_level: bool = False
    mandatory: Object | None = None
    """What is made where there is none."""


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    flow = client.get(FLOW_SCHEMAS, "", key.name)
    if flow is None:
        return Snapshot(flow=None, mandatory=_mandatory(bootstrap.flow_schemas(), key.name))
    return Snapshot(flow=flow, has_level=client.get(LEVELS, "", _level(flow)) is not None)


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    if snapshot.flow is None:
        return _again(FLOW_SCHEMAS, snapshot.mandatory)
    wanted = _condition(_level(snapshot.flow), exists=snapshot.has_level)
    conditions = replace_condition(meta.conditions(snapshot.flow), wanted, now)
    return [*write_status(FLOW_SCHEMAS, snapshot.flow, {"conditions": conditions}, "its priority level says so")]


def _condition(level: str, *, exists: bool) -> Object:
    about = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
    if exists:
        return {"type": "Dangling", "status": "False", "reason": "Found", "message": f"{about} and it exists"}
    message = f"{about} but there is no such object"
    return {"type": "Dangling", "status": "True", "reason": "NotFound", "message": message}


def _level(flow: Object) -> str:
    return meta.part(flow, "spec", "priorityLevelConfiguration").get("name", "")


def _mandatory(objects: Iterable[Object], name: str) -> Object | None:
    return next((o for o in objects if meta.name(o) == name and name in _MANDATORY), None)


def _again(resource: str, obj: Object | None) -> list[Action]:
    if obj is None:
        return []
    return [Create(why="no cluster is without it", resource=resource, object=obj, exists_ok=True)]


def _of_level(client: Client, change: Change) -> Iterable[ObjectKey]:
    level = change.entry.key.name
    return (key_of(flow) for flow in client.list(FLOW_SCHEMAS) if _level(flow) == level)


def controller() -> Controller:
    return Controller(
        name="api-priority-and-fairness",
        user=bootstrap.USER,
        resource=FLOW_SCHEMAS,
        watches=(Watch(resource=FLOW_SCHEMAS, keys=itself), Watch(resource=LEVELS, keys=_of_level)),
        reconcile=looking(observe, decide),
    )


def _observe_level(client: Client, key: ObjectKey) -> Object | None:
    """The mandatory level of that name, if it is missing."""
    if client.get(LEVELS, "", key.name) is not None:
        return None
    return _mandatory(bootstrap.priority_levels(), key.name)


def levels() -> Controller:
    """Keeps the mandatory priority levels."""
    make: Callable[[Object, datetime], Sequence[Action]] = lambda level, _now: _again(LEVELS, level)  # noqa: E731
    return Controller(
        name="api-priority-and-fairness-levels",
        user=bootstrap.USER,
        resource=LEVELS,
        watches=(Watch(resource=LEVELS, keys=itself),),
        reconcile=looking(_observe_level, make),
    )
