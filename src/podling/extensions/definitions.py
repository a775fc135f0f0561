"""The life of a CustomResourceDefinition: its names are accepted, it is established, served, and taken away again.

What the naming, establishing and finalizing controllers of apiextensions-apiserver do, as one subscriber.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.api.resources import Resource
from podling.api.server import ApiServer
from podling.kinds.apiextensions.customresourcedefinition import CLEANUP
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Change, ChangeType, Object

_log = logging.getLogger(__name__)
DEFINITIONS: Final = "customresourcedefinitions.apiextensions.k8s.io"
_SINGLE_NAMES: Final = ("plural", "singular", "kind", "listKind")
_ATTEMPTS: Final = 5


class Definitions:
    """Serves the custom resources of a cluster."""

    def __init__(self, server: ApiServer, client: Client, clock: Callable[[], datetime]) -> None:
        self._server = server
        self._client = client
        self._clock = clock
        self._known: dict[str, Object] = {}
        self._served: dict[str, Object] = {}
        """The spec and accepted names that are served, by definition."""
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Serves what is established already, and from now on what comes."""
        self._client.subscribe(DEFINITIONS, self._changed)

    def _changed(self, change: Change) -> None:
        definition, name = change.entry.object, change.entry.key.name
        if change.type is ChangeType.DELETED:
            self._known.pop(name, None)
            self._forget(name)
            self._renew_others()
            return
        self._known[name] = definition
        if meta.condition_is(definition, "Established"):
            self._serve(name, definition)
        if _is_settled(definition, self._decided(name, definition)):
            if meta.deleting(definition) and CLEANUP in meta.finalizers(definition):
                self._spawn(self._clean_up(name))
            return
        self._spawn(self._settle(name))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Names and conditions

    def _decided(self, name: str, definition: Object) -> Object:
        """The status that the definition should have."""
        taken = self._taken(name, definition["spec"]["group"])
        accepted, problem = _accept(definition, taken)
        conditions = _conditions(definition, problem, meta.timestamp(self._clock()))
        return {**meta.status(definition), "acceptedNames": accepted, "conditions": conditions}

    def _taken(self, name: str, group: str) -> Object:
        """What other definitions of the group (or built-in kinds) are called already."""
        names: set[str] = set()
        kinds: set[str] = set()
        for other, definition in self._known.items():
            if other != name and definition["spec"]["group"] == group:
                called = part(definition, "status", "acceptedNames")
                names |= {text(called, "plural"), text(called, "singular"), *entries(called, "shortNames")}
                kinds |= {text(called, "kind"), text(called, "listKind")}
        return {"resources": names - {""}, "kinds": kinds - {""}}

    async def _settle(self, name: str) -> None:
        for _ in range(_ATTEMPTS):
            definition = self._client.get(DEFINITIONS, "", name)
            if definition is None:
                return
            status = self._decided(name, definition)
            if _is_settled(definition, status):
                return
            wanted = {**definition, "status": status}
            if meta.condition_is(wanted, "Established"):
                self._serve(name, wanted)
            try:
                await self._client.update_status(DEFINITIONS, wanted)
            except ApiError as error:
                if error.code != 409:
                    _log.warning("definition %s: %s", name, error)
                    return

    def _renew_others(self) -> None:
        """Names that were taken may be free now."""
        for name, definition in self._known.items():
            if not meta.condition_is(definition, "NamesAccepted"):
                self._spawn(self._settle(name))

    # Serving

    def _serve(self, name: str, definition: Object) -> None:
        status = part(definition, "status")
        names, stored = part(status, "acceptedNames"), entries(status, "storedVersions")
        served: Object = {"spec": definition["spec"], "names": names, "stored": stored}
        if self._served.get(name) == served:
            return
        from podling.extensions.customresources import resources_of  # a cluster without definitions never needs it

        resources = resources_of(definition, self._server.schemas, self._server.registry.reader)
        before = self._served.get(name)
        self._served[name] = served
        if before is not None:
            self._withdraw(before["spec"], keep={resource.version for resource in resources})
        self._server.add_resources(*resources)

    def _forget(self, name: str) -> None:
        served = self._served.pop(name, None)
        if served is not None:
            self._withdraw(served["spec"], keep=())

    def _withdraw(self, spec: Object, keep: Iterable[str]) -> None:
        kept = set(keep)
        for version in entries(spec, "versions"):
            if version["name"] not in kept:
                self._server.served.remove(spec["group"], spec["names"]["plural"], version["name"])

    # The end

    async def _clean_up(self, name: str) -> None:
        """Deletes the instances; when none is left, lets the definition go."""
        definition = self._client.get(DEFINITIONS, "", name)
        resource = self._resource(definition) if definition is not None else None
        if resource is not None:
            await self._delete_instances(resource)
            if self._client.list(resource.group_resource):
                self._wait_for_instances(name, resource)
                return
        await self._release(name)

    def _resource(self, definition: Object) -> Resource | None:
        spec = definition["spec"]
        return self._server.served.by_name(f"{spec['names']['plural']}.{spec['group']}")

    async def _delete_instances(self, resource: Resource) -> None:
        for obj in self._client.list(resource.group_resource):
            try:
                await self._client.delete(resource.group_resource, meta.namespace(obj), meta.name(obj))
            except ApiError as error:
                if error.code != 404:
                    _log.info("%s %s stays for now: %s", resource.kind, meta.name(obj), error)

    def _wait_for_instances(self, name: str, resource: Resource) -> None:
        def gone(change: Change) -> None:
            if change.type is ChangeType.DELETED and not self._client.list(resource.group_resource):
                watch.close()
                self._spawn(self._release(name))

        watch = self._client.subscribe(resource.group_resource, gone)

    async def _release(self, name: str) -> None:
        for _ in range(_ATTEMPTS):
            definition = self._client.get(DEFINITIONS, "", name)
            if definition is None or CLEANUP not in meta.finalizers(definition):
                return
            rest = [finalizer for finalizer in meta.finalizers(definition) if finalizer != CLEANUP]
            metadata = {**definition["metadata"], "finalizers": rest}
            try:
                # By its status, as upstream: there nobody asks what its versions were once stored as.
                await self._client.update_status(DEFINITIONS, {**definition, "metadata": metadata})
            except ApiError as error:
                if error.code != 409:
                    _log.warning("definition %s cannot go: %s", name, error)
                    return


def _accept(definition: Object, taken: Object) -> tuple[Object, Object | None]:
    """The names in force, and of a conflict the first reason and message."""
    wanted, current = definition["spec"]["names"], part(definition, "status", "acceptedNames")
    accepted = {**current}
    conflicts: list[tuple[str, str]] = []
    for key in _SINGLE_NAMES:
        value = text(wanted, key)
        clash = value in taken["kinds" if key in ("kind", "listKind") else "resources"]
        if clash and value != text(current, key):
            conflicts.append((f"{key[0].upper()}{key[1:]}Conflict", f'"{value}" is already in use'))
        elif value:
            accepted[key] = value
    shorts: list[str] = entries(wanted, "shortNames")
    clashing = sorted({short for short in shorts if short in taken["resources"]} - {*entries(current, "shortNames")})
    if clashing:
        message = ", ".join(f'"{short}" is already in use' for short in clashing)
        conflicts.append(("ShortNamesConflict", message if len(clashing) == 1 else f"[{message}]"))
    else:
        _set(accepted, "shortNames", shorts)
    _set(accepted, "categories", entries(wanted, "categories"))
    accepted.setdefault("plural", "")
    accepted.setdefault("kind", "")
    problem: Object | None = {"reason": conflicts[-1][0], "message": conflicts[-1][1]} if conflicts else None
    return accepted, problem


def _set(names: Object, key: str, values: list[str]) -> None:
    if values:
        names[key] = values
    else:
        names.pop(key, None)


def _conditions(definition: Object, problem: Object | None, now: str) -> list[Object]:
    wanted: list[Object] = []
    if problem is None:
        wanted.append(_condition("NamesAccepted", "True", "NoConflicts", "no conflicts found"))
    else:
        wanted.append(_condition("NamesAccepted", "False", problem["reason"], problem["message"]))
    if not meta.condition_is(definition, "Established"):
        if problem is None:
            words = "the initial names have been accepted"
            wanted.append(_condition("Established", "True", "InitialNamesAccepted", words))
        else:
            wanted.append(_condition("Established", "False", "NotAccepted", "not all names are accepted"))
    return _merged(list(meta.conditions(definition)), wanted, now)


def _condition(type_: str, status: str, reason: str, message: str) -> Object:
    return {"type": type_, "status": status, "reason": reason, "message": message}


def _merged(present: list[Object], wanted: list[Object], now: str) -> list[Object]:
    result = list(present)
    for condition in wanted:
        before = meta.find_condition(result, condition["type"])
        if before is None:
            result.append({**condition, "lastTransitionTime": now})
            continue
        moment = before["lastTransitionTime"] if before["status"] == condition["status"] else now
        result[result.index(before)] = {**condition, "lastTransitionTime": moment}
    return result


def _is_settled(definition: Object, decided: Object) -> bool:
    status = meta.status(definition)
    return all(status.get(key) == decided.get(key) for key in ("acceptedNames", "conditions"))
