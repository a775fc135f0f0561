"""Role-based access control: may this user do that? (`rbac.authorization.k8s.io/v1`)

Rules only ever allow. The bindings are indexed by subject, and what a subject may do in a namespace is compiled once
and kept until any role or binding changes, so that a decision costs a few dictionary look-ups.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podling.api.requests import Attributes, Decision
from podling.api.resources import Reader, User
from podling.auth.tokens import PREFIX
from podling.store.types import Object

GROUP = "rbac.authorization.k8s.io"
RESOURCES = tuple(f"{plural}.{GROUP}" for plural in ("roles", "clusterroles", "rolebindings", "clusterrolebindings"))
"""What decisions depend on: call `Rbac.changed` at each change of one of these."""
SUPERUSERS = "system:masters"
REMEMBERED = 2048
"""How many (user, namespace) pairs keep their compiled rules."""

Rule = Mapping[str, Any]
Subject = tuple[str, str]
"""(kind, name); a service account is the user `system:serviceaccount:NAMESPACE:NAME`."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule and the binding that gives it, in the words of an authorization reason."""

    rule: Rule
    reason: str


class Rbac:
    """Callable as `podling.api.requests.Authorize`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._bindings: dict[str, dict[Subject, list[Object]]] | None = None
        self._compiled: OrderedDict[tuple[str, tuple[str, ...], str], list[Grant]] = OrderedDict()

    def changed(self) -> None:
        """A role or binding is another now: forget what was compiled."""
        self._bindings = None
        self._compiled.clear()

    def __call__(self, user: User, attributes: Attributes) -> Decision:
        if SUPERUSERS in user.groups:
            return Decision(True)
        for grant in self.grants(user, attributes.namespace):
            if allows(grant.rule, attributes):
                return Decision(True, grant.reason)
        return Decision(False)

    def grants(self, user: User, namespace: str) -> Sequence[Grant]:
        """All that the user may do in the namespace (`""`: at the cluster's scope only)."""
        key = (user.name, user.groups, namespace)
        known = self._compiled.get(key)
        if known is None:
            known = self._compiled[key] = list(self._compile(user, namespace))
            if len(self._compiled) > REMEMBERED:
                self._compiled.popitem(last=False)
        return known

    def _compile(self, user: User, namespace: str) -> Iterator[Grant]:
        bindings = self._bindings
        if bindings is None:
            bindings = self._bindings = self._index()
        subjects: list[Subject] = [("User", user.name), *(("Group", group) for group in user.groups)]
        for place in ("", namespace) if namespace else ("",):
            here = bindings.get(place, {})
            for subject in subjects:
                for binding in here.get(subject, ()):
                    yield from self._granted(binding, place, subject)

    def _index(self) -> dict[str, dict[Subject, list[Object]]]:
        index: dict[str, dict[Subject, list[Object]]] = {}
        for resource in ("clusterrolebindings", "rolebindings"):
            for binding in self._reader.list(f"{resource}.{GROUP}"):
                place = binding["metadata"].get("namespace", "")
                here = index.setdefault(place, {})
                for subject in binding.get("subjects") or ():
                    here.setdefault(_subject(subject, place), []).append(binding)
        return index

    def _granted(self, binding: Object, namespace: str, subject: Subject) -> Iterator[Grant]:
        reference = binding["roleRef"]
        reason = _reason(binding, namespace, subject)
        for rule in self.role_rules(reference, namespace):
            yield Grant(rule, reason)

    def role_rules(self, reference: Mapping[str, str], namespace: str) -> Sequence[Rule]:
        """The rules of the role that `reference` (a roleRef) names; none if it is not there."""
        place = "" if reference["kind"] == "ClusterRole" else namespace
        plural = "clusterroles" if reference["kind"] == "ClusterRole" else "roles"
        role = self._reader.get(f"{plural}.{GROUP}", place, reference["name"])
        return (role or {}).get("rules") or ()


def _subject(subject: Mapping[str, str], namespace: str) -> Subject:
    if subject["kind"] == "ServiceAccount":
        return ("User", f"{PREFIX}{subject.get('namespace') or namespace}:{subject['name']}")
    return (subject["kind"], subject["name"])


def _reason(binding: Object, namespace: str, subject: Subject) -> str:
    name, reference = binding["metadata"]["name"], binding["roleRef"]
    where = f'RoleBinding "{name}/{namespace}"' if namespace else f'ClusterRoleBinding "{name}"'
    return f'RBAC: allowed by {where} of {reference["kind"]} "{reference["name"]}" to {_words(subject)}'


def _words(subject: Subject) -> str:
    kind, name = subject
    account = name.removeprefix(PREFIX).split(":") if name.startswith(PREFIX) else []
    if kind == "User" and len(account) == 2:
        return f'ServiceAccount "{account[1]}/{account[0]}"'
    return f'{kind} "{name}"'


def allows(rule: Rule, attributes: Attributes) -> bool:
    """Whether one `PolicyRule` covers what is asked."""
    if not _has(rule.get("verbs"), attributes.verb):
        return False
    if attributes.path:
        return any(_covers_path(pattern, attributes.path) for pattern in rule.get("nonResourceURLs") or ())
    if not _has(rule.get("apiGroups"), attributes.group):
        return False
    if not covers_resource(rule.get("resources") or (), attributes.resource, attributes.subresource):
        return False
    names = rule.get("resourceNames")
    return not names or attributes.name in names


def _has(values: Iterable[str] | None, value: str) -> bool:
    return values is not None and ("*" in values or value in values)


def covers_resource(patterns: Iterable[str], resource: str, subresource: str) -> bool:
    """`pods`, `pods/log`, `*`, and `*/scale`: the subresource of any resource."""
    asked = f"{resource}/{subresource}" if subresource else resource
    return any(pattern in ("*", asked) or (subresource and pattern == f"*/{subresource}") for pattern in patterns)


def _covers_path(pattern: str, path: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return pattern == path


# Escalation: nobody gives away what they do not have themselves.


def not_covered(owned: Iterable[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """Those of the `wanted` rules, broken down to single permissions, that `owned` does not contain."""
    have = list(owned)
    return [piece for rule in wanted for piece in breakdown(rule) if not any(contains(h, piece) for h in have)]


def breakdown(rule: Rule) -> Iterator[Rule]:
    """A rule as rules of one verb and one resource (or path) each."""
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in rule.get("verbs") or ():
                piece: dict[str, Any] = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
                names: Sequence[str] = rule.get("resourceNames") or ()
                if not names:
                    yield piece
                for name in names:
                    yield {**piece, "resourceNames": [name]}
    for path in rule.get("nonResourceURLs") or ():
        for verb in rule.get("verbs") or ():
            yield {"verbs": [verb], "nonResourceURLs": [path]}


def contains(owned: Rule, piece: Rule) -> bool:
    """Whether `owned` includes a single permission (of `breakdown`)."""
    if not _has(owned.get("verbs"), piece["verbs"][0]):
        return False
    if "nonResourceURLs" in piece:
        path = piece["nonResourceURLs"][0]
        return any(_covers_path(pattern, path) for pattern in owned.get("nonResourceURLs") or ())
    if not _has(owned.get("apiGroups"), piece["apiGroups"][0]):
        return False
    resource, _, subresource = piece["resources"][0].partition("/")
    if not covers_resource(owned.get("resources") or (), resource, subresource):
        return False
    names = owned.get("resourceNames")
    return not names or (piece.get("resourceNames") or [None])[0] in names
