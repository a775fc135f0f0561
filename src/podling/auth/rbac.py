"""Role-based access control: may this user do that? (`rbac.authorization.k8s.io/v1`)

Rules only ever allow. The bindings are indexed by subject, and the index follows each change. What a subject may do in
a namespace is compiled once and kept until a role or binding changes there (or in the whole cluster), so that a
decision costs a few dictionary look-ups.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podling.api.requests import Attributes, Decision
from podling.api.resources import Reader, User
from podling.auth.identities import MASTERS, PREFIX
from podling.store.types import Change, ChangeType, Object

GROUP = "rbac.authorization.k8s.io"
RESOURCES = tuple(f"{plural}.{GROUP}" for plural in ("roles", "clusterroles", "rolebindings", "clusterrolebindings"))
"""What decisions depend on: `Rbac.changed` is to be told of each change of one of these."""
BINDINGS = tuple(f"{plural}.{GROUP}" for plural in ("clusterrolebindings", "rolebindings"))
REMEMBERED = 2048
"""How many (user, namespace) pairs keep their compiled rules."""
DECISIONS = 64
"""How many decisions each of them keeps."""
LONGEST_NAME = 253
"""Nothing is remembered for a longer one (nothing can be called so): the names are those that a client makes up."""

Rule = Mapping[str, Any]
Subject = tuple[str, str]
"""(kind, name); a service account is the user `system:serviceaccount:NAMESPACE:NAME`."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule and the binding that gives it, in the words of an authorization reason."""

    rule: Rule
    reason: str


@dataclass(frozen=True, slots=True)
class Granted:
    """All that a user may do in a namespace, and the roles (as `roleRef`) that bindings name in vain."""

    grants: Sequence[Grant]
    missing: Sequence[Mapping[str, str]]
    decisions: dict[Attributes, Decision] = field(default_factory=dict[Attributes, Decision], compare=False)
    """Those of the last while, with which most requests are decided."""

    def decide(self, attributes: Attributes) -> Decision:
        decision = self.decisions.get(attributes)
        if decision is None:
            decision = self._decide(attributes)
            if len(attributes.name) + len(attributes.path) <= LONGEST_NAME:
                if len(self.decisions) >= DECISIONS:
                    self.decisions.clear()
                self.decisions[attributes] = decision
        return decision

    def _decide(self, attributes: Attributes) -> Decision:
        for grant in self.grants:
            if allows(grant.rule, attributes):
                return Decision(True, grant.reason)
        return Decision(False, f"RBAC: {self.problem}" if self.missing else "")

    @property
    def problem(self) -> str:
        """What is missing in one sentence; `""` if nothing is."""
        return joined(f'{role["kind"].lower()}.{GROUP} "{role["name"]}" not found' for role in self.missing)


def joined(errors: Iterable[str]) -> str:
    """As Go shows several errors: each once."""
    several = list(dict.fromkeys(errors))
    return f"[{', '.join(several)}]" if len(several) > 1 else "".join(several)


class Bindings:
    """The bindings by namespace (`""` for the cluster's) and subject."""

    def __init__(self, bindings: Iterable[Object]) -> None:
        self._names: dict[tuple[str, Subject], dict[str, Object]] = {}
        for binding in bindings:
            self.add(binding)

    def add(self, binding: Object) -> None:
        for place in _places(binding):
            self._names.setdefault(place, {})[binding["metadata"]["name"]] = binding

    def discard(self, binding: Object) -> None:
        for place in _places(binding):
            names = self._names.get(place, {})
            names.pop(binding["metadata"]["name"], None)
            if not names:
                self._names.pop(place, None)

    def find(self, namespace: str, subjects: Iterable[Subject]) -> Sequence[Object]:
        """Those of any of the subjects, each once, in the order of their names."""
        found: dict[str, Object] = {}
        for subject in subjects:
            found |= self._names.get((namespace, subject), {})
        return [binding for _, binding in sorted(found.items())]


class Rbac:
    """Callable as `podling.api.requests.Authorize`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._bindings: Bindings | None = None
        self._compiled: OrderedDict[tuple[str, tuple[str, ...], str], Granted] = OrderedDict()

    def changed(self, changes: Sequence[Change]) -> None:
        """Roles or bindings are others now: what they went into is compiled anew when it is asked for."""
        for change in changes:
            if self._bindings is not None and change.entry.key.resource in BINDINGS:
                _follow(self._bindings, change)
            self._forget(change.entry.key.namespace)

    def _forget(self, namespace: str) -> None:
        for known in [known for known in self._compiled if namespace in ("", known[2])]:
            del self._compiled[known]

    def __call__(self, user: User, attributes: Attributes) -> Decision:
        if MASTERS in user.groups:
            return Decision(True)
        if attributes.fields:  # no rule speaks of them
            attributes = attributes._replace(fields=())
        return self.granted(user, attributes.namespace).decide(attributes)

    def granted(self, user: User, namespace: str) -> Granted:
        """All that the user may do in the namespace (`""`: at the cluster's scope only)."""
        key = (user.name, user.groups, namespace)
        known = self._compiled.get(key)
        if known is None:
            known = self._compile(user, namespace)
            if len(namespace) > LONGEST_NAME:
                return known
            self._compiled[key] = known
            if len(self._compiled) > REMEMBERED:
                self._compiled.popitem(last=False)
        return known

    def _compile(self, user: User, namespace: str) -> Granted:
        bindings = self._bindings
        if bindings is None:
            bindings = self._bindings = Bindings(b for resource in BINDINGS for b in self._reader.list(resource))
        subjects: list[Subject] = [("User", user.name), *(("Group", group) for group in user.groups)]
        grants: list[Grant] = []
        missing: list[Mapping[str, str]] = []
        for place in ("", namespace) if namespace else ("",):
            for binding in bindings.find(place, subjects):
                rules = self.role_rules(binding["roleRef"], place)
                reason = _reason(binding, place, subjects)
                if rules is None:
                    missing.append(binding["roleRef"])
                grants += [Grant(rule, reason) for rule in rules or ()]
        return Granted(grants, missing)

    def role_rules(self, reference: Mapping[str, str], namespace: str) -> Sequence[Rule] | None:
        """The rules of the role that `reference` (a roleRef) names; `None` if it is not there."""
        place = "" if reference["kind"] == "ClusterRole" else namespace
        plural = "clusterroles" if reference["kind"] == "ClusterRole" else "roles"
        role = self._reader.get(f"{plural}.{GROUP}", place, reference["name"])
        return (role.get("rules") or ()) if role is not None else None


def _follow(bindings: Bindings, change: Change) -> None:
    if change.previous is not None:
        bindings.discard(change.previous.object)
    if change.type is not ChangeType.DELETED:
        bindings.add(change.entry.object)


def _places(binding: Object) -> set[tuple[str, Subject]]:
    namespace = binding["metadata"].get("namespace", "")
    return {(namespace, _subject(subject, namespace)) for subject in binding.get("subjects") or ()}


def _subject(subject: Mapping[str, str], namespace: str) -> Subject:
    if subject["kind"] == "ServiceAccount":
        return ("User", f"{PREFIX}{subject.get('namespace') or namespace}:{subject['name']}")
    return (subject["kind"], subject["name"])


def _reason(binding: Object, namespace: str, subjects: Sequence[Subject]) -> str:
    name, reference = binding["metadata"]["name"], binding["roleRef"]
    where = f'RoleBinding "{name}/{namespace}"' if namespace else f'ClusterRoleBinding "{name}"'
    first = next(subject for subject in binding["subjects"] if _subject(subject, namespace) in subjects)
    return f'RBAC: allowed by {where} of {reference["kind"]} "{reference["name"]}" to {_words(first, namespace)}'


def _words(subject: Mapping[str, str], namespace: str) -> str:
    kind, name = subject["kind"], subject["name"]
    if kind == "ServiceAccount":
        name = f"{name}/{subject.get('namespace') or namespace}"
    return f'{kind} "{name}"'


def allows(rule: Rule, attributes: Attributes) -> bool:
    """Whether one `PolicyRule` covers what is asked."""
    if not has(rule.get("verbs"), attributes.verb):
        return False
    if attributes.path:
        return any(covers_path(pattern, attributes.path) for pattern in rule.get("nonResourceURLs") or ())
    if not has(rule.get("apiGroups"), attributes.group):
        return False
    if not covers_resource(rule.get("resources") or (), attributes.resource, attributes.subresource):
        return False
    names = rule.get("resourceNames")
    return not names or attributes.name in names


def has(values: Iterable[str] | None, value: str) -> bool:
    """Whether a rule's list names the value, or everything."""
    return values is not None and ("*" in values or value in values)


def covers_resource(patterns: Sequence[str], resource: str, subresource: str) -> bool:
    """`pods`, `pods/log`, `*`, and `*/scale`: the subresource of any resource."""
    if "*" in patterns:
        return True
    if subresource:
        return f"{resource}/{subresource}" in patterns or f"*/{subresource}" in patterns
    return resource in patterns


def covers_path(pattern: str, path: str) -> bool:
    """`/healthz`, and `/healthz/*` for what is below."""
    if pattern.endswith("*"):
        return path.startswith(pattern.rstrip("*"))
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
    if not has(owned.get("verbs"), piece["verbs"][0]):
        return False
    if "nonResourceURLs" in piece:
        path = piece["nonResourceURLs"][0]
        return any(covers_path(pattern, path) for pattern in owned.get("nonResourceURLs") or ())
    if not has(owned.get("apiGroups"), piece["apiGroups"][0]):
        return False
    resource, _, subresource = piece["resources"][0].partition("/")
    if not covers_resource(owned.get("resources") or (), resource, subresource):
        return False
    names = owned.get("resourceNames")
    return not names or (piece.get("resourceNames") or [None])[0] in names
