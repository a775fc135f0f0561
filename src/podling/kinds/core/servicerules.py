"""What a service needs by its type, and the rules for its addresses, which are checked before any is given out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from podling.api.errors import FieldError, duplicate, invalid_value, required
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


def allocates_node_ports(spec: Object) -> bool:
    """Whether ports without a node port are given one."""
    kind = text(spec, "type")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def is_headless(spec: Object) -> bool:
    return entries(spec, "clusterIPs") == ["None"]


def cluster_ip_rules(spec: Object, before: Object) -> list[FieldError]:
    """`clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` against each other."""
    if text(spec, "type") == "ExternalName":
        return []
    errors = _primary(spec) + _families(spec)
    addresses: list[str] = entries(spec, "clusterIPs")
    wrong = _addresses(addresses, entries(before, "clusterIPs"))
    errors += wrong
    if len(addresses) > 2:
        errors.append(invalid_value("spec.clusterIPs", addresses, "may only hold up to 2 values"))
    return errors if wrong else errors + _by_family(spec, addresses)


def _primary(spec: Object) -> list[FieldError]:
    primary, addresses = text(spec, "clusterIP"), entries(spec, "clusterIPs")
    if primary and not addresses:
        return [required("spec.clusterIPs")]
    if primary and addresses[0] != primary:
        return [invalid_value("spec.clusterIPs", addresses, "first value must match `clusterIP`")]
    if addresses and not primary:
        return [invalid_value("spec.clusterIPs", addresses, "must be empty when `clusterIP` is not specified")]
    return []


def _families(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, family in each("spec.ipFamilies", spec.get("ipFamilies")):
        errors += fields.one_of(at, family, FAMILIES)
        if family in seen:
            errors.append(duplicate(at, family))
        seen.add(family)
    if (policy := spec.get("ipFamilyPolicy")) is not None:
        errors += fields.one_of("spec.ipFamilyPolicy", policy, FAMILY_POLICIES)
    return errors


def _addresses(addresses: Sequence[str], known: Sequence[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, (at, address) in enumerate(each("spec.clusterIPs", addresses)):
        if index > 0 or address != "None":
            errors += fields.new_ip(at, address, known)
        elif len(addresses) > 1:
            errors.append(invalid_value("spec.clusterIPs", addresses, "'None' must be the first and only value"))
    return errors


def _by_family(spec: Object, addresses: list[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    found = [family_of(address) for address in addresses]
    if len(addresses) > 1 and (len(addresses) > 2 or len(set(found)) < 2):
        detail = "may specify no more than one IP for each IP family"
        errors.append(invalid_value("spec.clusterIPs", addresses, detail))
    if is_headless(spec):
        return errors
    for index, (family, wanted) in enumerate(zip(found, entries(spec, "ipFamilies"), strict=False)):
        if wanted in FAMILIES and family != wanted:
            detail = f"expected an {wanted} value as indicated by `ipFamilies[{index}]`"
            errors.append(invalid_value(f"spec.clusterIPs[{index}]", addresses[index], detail))
    return errors


def family_of(address: str) -> str:
    parsed = names.parse_ip(address)
    return "IPv6" if parsed is not None and names.plain(parsed).version == 6 else "IPv4"


def address_change(spec: Object, before: Object) -> list[FieldError]:
    """Addresses and families may be added and taken away behind the first, which stays."""
    if "ExternalName" in (text(spec, "type"), text(before, "type")):
        return []
    headless = is_headless(spec), is_headless(before)
    errors = [] if all(headless) else _changed(spec, before, "clusterIPs", "clusterIP", entries(spec, "clusterIPs"))
    return errors if any(headless) else errors + _changed(spec, before, "ipFamilies", "ipFamily", None)


def _changed(spec: Object, before: Object, key: str, called: str, shown: list[str] | None) -> list[FieldError]:
    """What Kubernetes shows of changed families is the families where their number stays, else the addresses."""
    path = f"spec.{key}"
    new, old = entries(spec, key), entries(before, key)
    addresses: list[str] = entries(spec, "clusterIPs")
    if len(new) == len(old):
        return [
            invalid_value(f"{path}[{index if shown is not None else 0}]", new, "may not change once set")
            for index, (now, then) in enumerate(zip(new, old, strict=True))
            if now != then
        ]
    errors: list[FieldError] = []
    released = len(new) < len(old)
    if released and not addresses:
        errors.append(invalid_value(f"{path}[0]", new or None, f"primary {called} can not be unset"))
    if new and old and new[0] != old[0]:
        errors.append(invalid_value(f"{path}[0]", addresses, "may not change once set"))
    policy = spec.get("ipFamilyPolicy")
    if released and len(new) == 1 and policy != "SingleStack":
        detail = f"must be set to 'SingleStack' when releasing the secondary {called}"
        errors.append(invalid_value("spec.ipFamilyPolicy", policy, detail))
    return errors
