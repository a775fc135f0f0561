"""What a service needs by its type, and the rules for its addresses, which are checked before any is given out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, text
from podling.store.types import Object

_WITH_ADDRESS: Final = ("ClusterIP", "LoadBalancer", "NodePort")
FAMILY_POLICIES: Final = ("PreferDualStack", "RequireDualStack", "SingleStack")
FAMILIES: Final = ("IPv4", "IPv6")


def needs_cluster_ip(spec: Object) -> bool:
    return text(spec, "type") in _WITH_ADDRESS


def needs_node_ports(spec: Object) -> bool:
    kind = text(spec, "type")
    return kind == "NodePort" or kind == "LoadBalancer"


def externally_accessible(spec: Object) -> bool:
    return needs_node_ports(spec) or (text(spec, "type") == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check(spec: Object) -> bool:
    return text(spec, "type") == "LoadBalancer" and text(spec, "externalTrafficPolicy") == "Local"


def is_headless(spec: Object) -> bool:
    return (spec.get("clusterIPs") or [spec.get("clusterIP")])[0] == "None"


def cluster_ip_rules(spec: Object) -> list[FieldError]:
    """`clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` against each other."""
    if text(spec, "type") == "ExternalName":
        detail = "may not be set for ExternalName services"
        keys = ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
        return [forbidden_field(f"spec.{key}", detail) for key in keys if spec.get(key)]
    return _families(spec) + _cluster_ips(spec)


def _families(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    policy = spec.get("ipFamilyPolicy")
    if policy is not None:
        errors += fields.one_of("spec.ipFamilyPolicy", policy, FAMILY_POLICIES)
    seen: set[str] = set()
    for at, family in each("spec.ipFamilies", spec.get("ipFamilies")):
        if family not in FAMILIES:
            errors.append(not_supported(at, family, FAMILIES))
        elif family in seen:
            errors.append(duplicate(at, family))
        seen.add(family)
    if spec.get("ipFamilies") and len(spec["ipFamilies"]) > 2:
        detail = "may only hold up to 2 values"
        errors.append(invalid_value("spec.ipFamilies", spec["ipFamilies"], detail))
    return errors


def _cluster_ips(spec: Object) -> list[FieldError]:
    primary, addresses = text(spec, "clusterIP"), entries(spec, "clusterIPs")
    errors: list[FieldError] = []
    if primary and not addresses:
        errors.append(required("spec.clusterIPs"))
    elif addresses and not primary:
        errors.append(invalid_value("spec.clusterIPs", addresses, "must be empty when `clusterIP` is not specified"))
    elif addresses and addresses[0] != primary:
        errors.append(invalid_value("spec.clusterIPs", addresses, "first value must match `clusterIP`"))
    if len(addresses) > 2:
        errors.append(invalid_value("spec.clusterIPs", addresses, "may only hold up to 2 values"))
    errors += _each_address(spec, addresses)
    return errors


def _each_address(spec: Object, addresses: Sequence[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    families = entries(spec, "ipFamilies")
    for index, (at, address) in enumerate(each("spec.clusterIPs", addresses)):
        if index == 0 and address == "None":
            if len(addresses) > 1:
                errors.append(invalid_value("spec.clusterIPs", addresses, "'None' must be the first and only value"))
            continue
        wrong = names.ip(address)
        errors += fields.says(at, address, wrong)
        if not wrong and index < len(families):
            family = "IPv6" if ":" in address else "IPv4"
            if family != families[index]:
                detail = f"expected an {families[index]} value as indicated by `ipFamilies[{index}]`"
                errors.append(invalid_value(at, address, detail))
    return errors
