"""Which requests a webhook or a policy is for: rules, selectors and the equivalence of versions.

`k8s.io/apiserver/pkg/admission/plugin/webhook/predicates` and `policy/matching`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from podling.api import meta
from podling.api.resources import Resource, Write
from podling.api.served import Served
from podling.kinds.validation.fields import entries
from podling.store.types import Object

_EXEMPT: Final = frozenset(
    {
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
    }
)
"""What no webhook or policy is asked about, so that none can lock out whoever would mend it."""


@dataclass(frozen=True, slots=True)
class Match:
    """The resource (and version) that a rule named: another one than the request's, where they are equivalent."""

    resource: Resource


def is_exempt(write: Write) -> bool:
    return write.resource.group_resource in _EXEMPT


def matching(spec: Object, rules_key: str, write: Write, served: Served) -> Match | None:
    """Whether a webhook (`rules`) or the constraints of a policy (`resourceRules`) are for a write."""
    policy: str = spec.get("matchPolicy") or "Equivalent"
    found = _by_rules(entries(spec, rules_key), policy, write, served)
    if found is None or _by_rules(entries(spec, "excludeResourceRules"), policy, write, served) is not None:
        return None
    if not selects_namespace(spec.get("namespaceSelector"), write):
        return None
    return found if _selects_object(spec.get("objectSelector"), write) else None


def _by_rules(rules: Sequence[Object], policy: str, write: Write, served: Served) -> Match | None:
    """The first rule decides in which version a write is shown; a rule that names the write's own comes before all."""
    if any(_rule_fits(rule, write.resource, write) for rule in rules):
        return Match(write.resource)
    if policy != "Equivalent":
        return None
    for rule in rules:
        for other in _equivalents(write.resource, served):
            if _rule_fits(rule, other, write):
                return Match(other)
    return None


def _equivalents(resource: Resource, served: Served) -> list[Resource]:
    key = resource.storage_key
    return [other for other in served.all() if other.storage_key == key and other is not resource]


def _rule_fits(rule: Object, resource: Resource, write: Write) -> bool:
    names: list[str] = entries(rule, "resourceNames")
    return (
        _among(write.operation, entries(rule, "operations"))
        and _among(resource.group, entries(rule, "apiGroups"))
        and _among(resource.version, entries(rule, "apiVersions"))
        and _fits_scope(cast(str, rule.get("scope") or "*"), resource)
        and any(_fits_resource(wanted, resource.plural, write.subresource) for wanted in entries(rule, "resources"))
        and (not names or write.name in names)
    )


def _among(value: str, wanted: Sequence[str]) -> bool:
    return "*" in wanted or value in wanted


def _fits_scope(scope: str, resource: Resource) -> bool:
    return scope == "*" or (scope == "Namespaced") == resource.namespaced


def _fits_resource(wanted: str, plural: str, subresource: str) -> bool:
    resource, _, sub = wanted.partition("/")
    return resource in ("*", plural) and (sub == subresource or (sub == "*" and "/" in wanted))


def selects_namespace(selector: Object | None, write: Write) -> bool:
    """Cluster-scoped objects are in no namespace, so no selector keeps them out; a Namespace is in itself, and is
    selected as it will be."""
    if not selector:
        return True
    if write.resource.group_resource != "namespaces" and not write.resource.namespaced:
        return True
    if write.resource.group_resource == "namespaces" and not write.subresource and write.operation != "DELETE":
        return meta.matches_selector(selector, meta.labels(write.new))
    namespace = write.reader.get("namespaces", "", write.namespace)
    return namespace is not None and meta.matches_selector(selector, meta.labels(namespace))


def _selects_object(selector: Object | None, write: Write) -> bool:
    if not selector:
        return True
    if write.about is not None and "metadata" not in write.new:
        return False
    present = [obj for obj in (write.new, write.old) if obj is not None]
    return any(meta.matches_selector(selector, meta.labels(obj)) for obj in present)


def namespace_of(write: Write) -> Object | None:
    """The namespace that the object is in."""
    if not write.resource.namespaced:
        return None
    return write.reader.get("namespaces", "", write.namespace)
