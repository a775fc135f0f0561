"""Nobody gives away what they do not have: writes of roles and bindings are held against their writer's own rights.

A step of validating admission. Who may `escalate` on a role, or `bind` it, is free of it; so is system:masters.
(pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding}/policybased)
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from podling.api import meta
from podling.api.errors import forbidden, not_found
from podling.api.requests import Attributes
from podling.api.resources import Write
from podling.auth.identities import MASTERS
from podling.auth.rbac import GROUP, Rbac, Rule, not_covered

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
        if write.old is not None and _same(write.old, write.new, "rules", "aggregationRule"):
            return
        if self._may(write, "escalate", write.resource.plural, meta.name(write.new)):
            return
        rules: list[Rule] = [*meta.items(write.new, "rules")]
        if write.new.get("aggregationRule"):
            rules += [EVERYTHING, EVERY_PATH]
        self._check_rules(write, rules)

    def _check_binding(self, write: Write) -> None:
        if write.old is not None and _same(write.old, write.new, "roleRef", "subjects"):
            return
        reference = write.new["roleRef"]
        plural = "clusterroles" if reference["kind"] == "ClusterRole" else "roles"
        if self._may(write, "bind", plural, reference["name"]):
            return
        place = "" if plural == "clusterroles" else meta.namespace(write.new)
        rules = self._rbac.role_rules(reference, place)
        if rules is None:
            raise not_found(write.resource.plural, GROUP, reference["name"])
        self._check_rules(write, list(rules))

    def _may(self, write: Write, verb: str, plural: str, name: str) -> bool:
        asked = Attributes(verb, "", GROUP, "v1", plural, "", meta.namespace(write.new), name)
        return self._rbac(write.user, asked).allowed

    def _check_rules(self, write: Write, wanted: list[Rule]) -> None:
        owned = self._rbac.granted(write.user, meta.namespace(write.new))
        missing = not_covered([grant.rule for grant in owned.grants], wanted)
        if not missing:
            return
        lines = "\n".join(_compact(rule) for rule in _merged(missing))
        why = (
            f'user "{write.user.name}" (groups={_strings(write.user.groups)}) is attempting to grant RBAC permissions '
            f"not currently held:\n{lines}"
        )
        if owned.problems:
            why += f"; resolution errors: [{' '.join(owned.problems)}]"
        raise forbidden(write.resource.plural, GROUP, meta.name(write.new), why)


EVERYTHING: Rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
EVERY_PATH: Rule = {"nonResourceURLs": ["*"], "verbs": ["*"]}


def _same(old: dict[str, object], new: dict[str, object], *fields: str) -> bool:
    return all(old.get(f) == new.get(f) for f in fields)


def _merged(rules: list[Rule]) -> list[Rule]:
    """Single permissions that differ only in their verb, as one rule (`validation.CompactRules`)."""
    merged: dict[bytes, dict[str, list[str]]] = {}
    for rule in rules:
        key = orjson.dumps({k: v for k, v in rule.items() if k != "verbs"}, option=orjson.OPT_SORT_KEYS)
        known = merged.get(key)
        if known is None:
            merged[key] = {k: list(v) for k, v in rule.items()}
        else:
            known["verbs"] += [v for v in rule["verbs"] if v not in known["verbs"]]
    return sorted(merged.values(), key=_compact)


def _compact(rule: Rule) -> str:
    names = {
        "apiGroups": "APIGroups",
        "resources": "Resources",
        "resourceNames": "ResourceNames",
        "nonResourceURLs": "NonResourceURLs",
        "verbs": "Verbs",
    }
    shown = [f"{name}:{_strings(rule[field])}" for field, name in names.items() if rule.get(field)]
    return "{" + ", ".join(shown) + "}"


def _strings(texts: Iterable[str]) -> str:
    """`%q` of Go."""
    return "[" + " ".join(orjson.dumps(text).decode() for text in texts) + "]"
