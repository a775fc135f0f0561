"""Rules and bindings: what roles and their bindings in a namespace and in the cluster have in common."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, invalid_value, not_supported, required
from podling.api.resources import Column, Write
from podling.kinds.core.poddefaults import fill
from podling.kinds.printing import age, age_column, name, name_column
from podling.kinds.validation import fields, meta, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

GROUP: Final = "rbac.authorization.k8s.io"
_SUBJECTS: Final = ("ServiceAccount", "User", "Group")


def rules(items: list[Object] | None, path: str, *, namespaced: bool) -> list[FieldError]:
    return [e for at, rule in each(path, items) for e in _rule(rule, at, namespaced)]


def _rule(rule: Object, path: str, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if not rule.get("verbs"):
        errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    urls = entries(rule, "nonResourceURLs")
    if urls:
        if namespaced:
            detail = "namespaced rules cannot apply to non-resource URLs"
            errors.append(invalid_value(f"{path}.nonResourceURLs", urls, detail))
        if any(rule.get(key) for key in ("apiGroups", "resources", "resourceNames")):
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(invalid_value(f"{path}.nonResourceURLs", urls, detail))
        return errors
    if not rule.get("apiGroups"):
        errors.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        errors.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
    return errors


def no_empty_rules(write: Write) -> None:
    """A role without rules shows `null`, however they were left out: Kubernetes stores it so."""
    if not write.new.get("rules"):
        write.new["rules"] = None


# Bindings


def default_binding(obj: Object) -> None:
    fill(obj.setdefault("roleRef", {}), "apiGroup", GROUP)
    for subject in entries(obj, "subjects"):
        if text(subject, "kind") in ("User", "Group"):
            fill(subject, "apiGroup", GROUP)


def binding(write: Write, kinds: tuple[str, ...]) -> list[FieldError]:
    """`kinds` are those of roles that the binding may point to."""
    new = write.new
    role = part(new, "roleRef")
    errors = meta.whole(write, names.segment_name)
    if text(role, "apiGroup") != GROUP:
        errors.append(not_supported("roleRef.apiGroup", text(role, "apiGroup"), (GROUP,)))
    if text(role, "kind") not in kinds:
        errors.append(not_supported("roleRef.kind", text(role, "kind"), kinds))
    errors += fields.check_required("roleRef.name", text(role, "name"), names.path_segment)
    for at, subject in each("subjects", new.get("subjects")):
        errors += _subject(subject, at, write.resource.namespaced)
    errors = checked_again(write, errors)
    if write.old is not None and role != part(write.old, "roleRef"):
        shown = {"APIGroup": text(role, "apiGroup"), "Kind": text(role, "kind"), "Name": text(role, "name")}
        errors.append(invalid_value("roleRef", shown, "cannot change roleRef"))
    return errors


def checked_again(write: Write, whole: list[FieldError]) -> list[FieldError]:
    """A changed role or binding is checked as a new one first."""
    return whole if write.old is None else meta.common(write) + whole + meta.changed(write)


def _subject(subject: Object, path: str, namespaced: bool) -> list[FieldError]:
    kind, named, group = text(subject, "kind"), text(subject, "name"), text(subject, "apiGroup")
    errors = [] if named else [required(f"{path}.name")]
    match kind:
        case "ServiceAccount":
            if named:
                errors += fields.check(f"{path}.name", named, names.dns1123_subdomain)
            if group:
                errors.append(not_supported(f"{path}.apiGroup", group, ("",)))
            if not namespaced and not text(subject, "namespace"):
                errors.append(required(f"{path}.namespace"))
        case "User" | "Group":
            if group != GROUP:
                errors.append(not_supported(f"{path}.apiGroup", group, (GROUP,)))
        case _:
            errors.append(not_supported(f"{path}.kind", kind, _SUBJECTS))
    return errors


# Printing


def binding_columns(binding_: str, role: str) -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Role", description=role),
        age_column(),
        Column("Users", description=f"Users in the {binding_}", priority=1),
        Column("Groups", description=f"Groups in the {binding_}", priority=1),
        Column("ServiceAccounts", description=f"ServiceAccounts in the {binding_}", priority=1),
    )


def binding_row(obj: Object, now: datetime) -> list[Any]:
    role = part(obj, "roleRef")
    subjects: list[Object] = entries(obj, "subjects")

    def listed(kind: str) -> str:
        return ", ".join(_subject_text(s) for s in subjects if text(s, "kind") == kind)

    return [
        name(obj),
        f"{text(role, 'kind')}/{text(role, 'name')}",
        age(obj, now),
        listed("User"),
        listed("Group"),
        listed("ServiceAccount"),
    ]


def _subject_text(subject: Object) -> str:
    if text(subject, "kind") == "ServiceAccount":
        return f"{text(subject, 'namespace')}/{text(subject, 'name')}"
    return text(subject, "name")
