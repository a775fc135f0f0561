"""Nobody gives away what they do not have: writes of roles and bindings are held against their writer's own rights.

A step of validating admission. Who may `escalate` on a role, or `bind` it, is free of it; so is system:masters.
(pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding}/policybased)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from podling.api import meta
from podling.api.errors import ApiError, forbidden, not_found
from podling.api.gotext import quoted
from podling.api.requests import Attributes
from podling.api.resources import Write
from podling.auth.identities import MASTERS
from podling.auth.rbac import GROUP, Rbac, Rule, joined, not_covered
from podling.store.types import Object

ROLES = ("roles", "clusterroles")
BINDINGS = ("rolebindings", "clusterrolebindings")


class EscalationCheck:
    """The step; see the module."""

    def __init__(self, rbac: Rbac) -> None:
        self._rbac = rbac

    def __call__(self, write: Write) -> None:
        resource = write.resource
        if resource.group != GROUP or write.operation not in ("CREATE", "UPDATE") or MASTERS in write.user.groups:
            return
        if resource.plural in ROLES:
            self._check_role(write)
        elif resource.plural in BINDINGS:
            self._check_binding(write)

    def _check_role(self, write: Write) -> None:
        if _changes_nothing(write) or self._may(write, "escalate", write.resource.plural, _path_name(write)):
            return
        missing = self._missing(write, meta.items(write.new, "rules"))
        if missing:
            raise self._refuse(write, missing)
        if (_aggregates(write.new) or _aggregates(write.old or {})) and self._missing(write, [EVERYTHING, EVERY_PATH]):
            why = "must have cluster-admin privileges to use the aggregationRule"
            raise forbidden(write.resource.plural, GROUP, meta.name(write.new), why)

    def _check_binding(self, write: Write) -> None:
        reference = write.new["roleRef"]
        plural = "clusterroles" if reference["kind"] == "ClusterRole" else "roles"
        if _changes_nothing(write) or self._may(write, "bind", plural, reference["name"]):
            return
        place = "" if plural == "clusterroles" else meta.namespace(write.new)
        rules = self._rbac.role_rules(reference, place)
        if rules is None:
            raise not_found(write.resource.plural, GROUP, reference["name"])
        missing = self._missing(write, rules)
        if missing:
            raise self._refuse(write, missing)

    def _may(self, write: Write, verb: str, plural: str, name: str) -> bool:
        asked = Attributes(verb, "", GROUP, "*", plural, "", meta.namespace(write.new), name)
        return self._rbac(write.user, asked).allowed

    def _missing(self, write: Write, wanted: Iterable[Rule]) -> list[Rule]:
        owned = self._rbac.granted(write.user, meta.namespace(write.new))
        return not_covered([grant.rule for grant in owned.grants], wanted)

    def _refuse(self, write: Write, missing: list[Rule]) -> ApiError:
        user, plural = write.user, write.resource.plural
        lines = "\n".join(sorted({_compact(rule) for rule in _merged(missing)}))
        why = (
            f"user {quoted(user.name)} (groups={_strings(user.groups)}) is attempting to grant RBAC permissions "
            f"not currently held:\n{lines}"
        )
        absent = self._rbac.granted(user, meta.namespace(write.new)).missing
        if absent:
            errors = joined(f"{plural}.{GROUP} {quoted(role['name'])} not found" for role in absent)
            why += f"; resolution errors: [{errors}]"
        return forbidden(plural, GROUP, meta.name(write.new), why)


EVERYTHING: Rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
EVERY_PATH: Rule = {"nonResourceURLs": ["*"], "verbs": ["*"]}


def _path_name(write: Write) -> str:
    """The name that authorization sees in the path: there is none where something is created."""
    return "" if write.old is None else meta.name(write.new)


def _changes_nothing(write: Write) -> bool:
    """Nothing but what the garbage collector has to change before it can delete (`IsOnlyMutatingGCFields`)."""
    return write.old is not None and _essence(write.old) == _essence(write.new)


def _essence(obj: Object) -> Object:
    kept = {k: v for k, v in meta.metadata(obj).items() if k not in _COLLECTED and v}
    return {**{k: v for k, v in obj.items() if v}, "metadata": kept}


_COLLECTED = ("ownerReferences", "finalizers", "managedFields")


def _aggregates(role: Object) -> bool:
    return bool(meta.items(role, "aggregationRule", "clusterRoleSelectors"))


def _merged(rules: Iterable[Rule]) -> Iterator[Rule]:
    """Single permissions on a resource that differ only in their verb, as one rule (`validation.CompactRules`)."""
    verbs: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for rule in rules:
        if "nonResourceURLs" in rule:
            yield rule
            continue
        key = (rule["apiGroups"][0], rule["resources"][0], tuple(rule.get("resourceNames") or ()))
        verbs.setdefault(key, []).extend(rule["verbs"])
    for (group, resource, names), given in verbs.items():
        yield {"apiGroups": [group], "resources": [resource], "resourceNames": names, "verbs": given}


def _compact(rule: Rule) -> str:
    names = {
        "apiGroups": "APIGroups",
        "resources": "Resources",
        "nonResourceURLs": "NonResourceURLs",
        "resourceNames": "ResourceNames",
        "verbs": "Verbs",
    }
    shown = [f"{name}:{_strings(rule[field])}" for field, name in names.items() if rule.get(field)]
    return "{" + ", ".join(shown) + "}"


def _strings(texts: Iterable[str]) -> str:
    """`%q` of Go."""
    return "[" + " ".join(map(quoted, texts)) + "]"
