"""Which flow schema a request belongs to: its answer says so (`X-Kubernetes-PF-*`), as clients log it.

Of the schemas that match, the one with the lowest `matchingPrecedence` counts, then the first by name; one whose
priority level is not there counts for nothing (`k8s.io/apiserver/pkg/util/flowcontrol`). Requests are not queued.
"""

from __future__ import annotations

from collections.abc import Sequence

from podling.api import meta
from podling.api.http import Headers
from podling.api.requests import Attributes
from podling.api.resources import Reader, User
from podling.auth.identities import service_account_of
from podling.auth.rbac import covers_path, has
from podling.store.types import Change, ChangeType, Object

GROUP = "flowcontrol.apiserver.k8s.io"
SCHEMAS, LEVELS = f"flowschemas.{GROUP}", f"prioritylevelconfigurations.{GROUP}"
RESOURCES = (SCHEMAS, LEVELS)
"""What the answers depend on: `Flows.changed` is to be told of each change of one of these."""
_REMEMBERED, _LONGEST = 1024, 253
_UNLIMITED = frozenset({"attach", "exec", "log", "portforward", "proxy"})
"""Subresources whose requests last as long as their clients like, and belong to no flow."""

_Known = tuple[str, tuple[str, ...], str, str, str, str, str, str]


class Flows:
    """Callable as `podling.api.requests.Classify`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._schemas: list[tuple[Object, Headers]] | None = None
        self._known: dict[_Known, Headers] = {}

    def changed(self, changes: Sequence[Change]) -> None:
        """Schemas or levels are others now; their status alone changes nothing."""
        if any(map(_counts, changes)):
            self._schemas = None
            self._known.clear()

    def __call__(self, user: User, asked: Attributes) -> Headers:
        if asked.subresource in _UNLIMITED:
            return ()
        key = (
            user.name,
            user.groups,
            asked.verb,
            asked.group,
            asked.resource,
            asked.subresource,
            asked.namespace,
            asked.path,
        )
        found = self._known.get(key)
        if found is None:
            found = next((headers for schema, headers in self._in_order() if matches(schema, user, asked)), ())
            if len(asked.namespace) + len(asked.path) <= _LONGEST:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = found
        return found

    def _in_order(self) -> list[tuple[Object, Headers]]:
        if self._schemas is None:
            levels = {meta.name(level): meta.uid(level) for level in self._reader.list(LEVELS)}
            schemas = sorted(self._reader.list(SCHEMAS), key=_rank)
            self._schemas = [(s, _headers(s, levels[_level(s)])) for s in schemas if _level(s) in levels]
        return self._schemas


def _counts(change: Change) -> bool:
    if change.type is not ChangeType.MODIFIED or change.previous is None:
        return True
    return meta.spec(change.previous.object) != meta.spec(change.entry.object)


def _rank(schema: Object) -> tuple[int, str]:
    return meta.spec(schema).get("matchingPrecedence", 0), meta.name(schema)


def _level(schema: Object) -> str:
    return meta.part(schema, "spec", "priorityLevelConfiguration").get("name", "")


def _headers(schema: Object, level: str) -> Headers:
    return (("X-Kubernetes-PF-FlowSchema-UID", meta.uid(schema)), ("X-Kubernetes-PF-PriorityLevel-UID", level))


def matches(schema: Object, user: User, asked: Attributes) -> bool:
    """Whether one of a schema's rules is about such a request of this user."""
    for rule in meta.items(schema, "spec", "rules"):
        if not any(_is_of(subject, user) for subject in meta.items(rule, "subjects")):
            continue
        if asked.path:
            if any(_covers_path(each, asked) for each in meta.items(rule, "nonResourceRules")):
                return True
        elif any(_covers(each, asked) for each in meta.items(rule, "resourceRules")):
            return True
    return False


def _is_of(subject: Object, user: User) -> bool:
    match subject["kind"]:
        case "User":
            return meta.part(subject, "user").get("name") in ("*", user.name)
        case "Group":
            name = meta.part(subject, "group").get("name")
            return name == "*" or name in user.groups
        case _:
            wanted, account = meta.part(subject, "serviceAccount"), service_account_of(user.name)
            if account is None or wanted.get("namespace") != account[0]:
                return False
            return wanted.get("name") in ("*", account[1])


def _covers(rule: Object, asked: Attributes) -> bool:
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    wanted = (("verbs", asked.verb), ("apiGroups", asked.group), ("resources", resource))
    if not all(has(rule.get(field), value) for field, value in wanted):
        return False
    return has(rule.get("namespaces"), asked.namespace) if asked.namespace else bool(rule.get("clusterScope"))


def _covers_path(rule: Object, asked: Attributes) -> bool:
    return has(rule.get("verbs"), asked.verb) and any(
        covers_path(pattern, asked.path) for pattern in rule.get("nonResourceURLs") or ()
    )
