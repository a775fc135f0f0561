"""Gives services their cluster address, node ports and health-check port, and takes them back.

The steps are those of Kubernetes' service registry (`pkg/registry/core/service/storage/alloc.go`), for a cluster of
one IPv4 range.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any, Final, TypeAlias

from podling.api.errors import ApiError, FieldError, internal, invalid, invalid_value
from podling.api.resources import Reader, Write
from podling.kinds.core.addresses import Exhausted, OutOfRange, Owner, Pool, Taken
from podling.kinds.core.servicerules import (
    allocates_node_ports,
    cluster_ip_rules,
    family_of,
    needs_cluster_ip,
    needs_health_check,
    needs_node_ports,
)
from podling.kinds.validation import names
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

SERVICE_RANGE: Final = IPv4Network("10.96.0.0/16")
NODE_PORTS: Final = (30000, 32767)
_STATIC_ADDRESSES: Final = 256
_STATIC_PORTS: Final = 86
_FAMILY: Final = "IPv4"

_Ports: TypeAlias = Sequence[tuple[int, Object]]


class Allocator:
    """The addresses and ports of one cluster's services."""

    def __init__(self, range_: IPv4Network = SERVICE_RANGE, ports: tuple[int, int] = NODE_PORTS) -> None:
        self._range = range_
        self._reader: Reader | None = None
        first, last = int(range_.network_address) + 1, int(range_.broadcast_address) - 1
        self._addresses = Pool(first, last, min(_STATIC_ADDRESSES, range_.num_addresses // 16), self._holds_address)
        self._ports = Pool(*ports, _STATIC_PORTS, self._holds_port)

    async def allocate(self, write: Write) -> None:
        """Completes `spec` of a service. Raises 422 where what it asks for cannot be had."""
        if write.subresource:
            return
        self._fill(write.reader)
        _families(write)
        taken: list[tuple[Pool, int]] = []
        try:
            self._cluster_ip(write, taken)
            self._node_ports(write, taken)
            self._health_check_port(write, taken)
        except _Refused as refused:
            _give_back(taken)
            raise _refused(write, [refused.error]) from refused
        except ApiError:
            _give_back(taken)
            raise
        if write.old is not None:
            if write.dry_run:
                _give_back(taken)
            else:
                self._leave(write.old, write.new)

    def released(self, service: Object) -> None:
        """Takes back everything a deleted service held, unless somebody else holds it by now; of a change that was
        refused, what the stored service does not have."""
        owner = _owner(service)
        for pool, number in self._numbers(service):
            if pool.owner(number) == owner and not pool.holds(owner, number):
                pool.free(number)

    # The pools

    def _fill(self, reader: Reader) -> None:
        if self._reader is not None:
            return
        self._reader = reader
        for service in reader.list("services"):
            for pool, number in self._numbers(service):
                pool.adopt(number, _owner(service))

    def _numbers(self, service: Object) -> list[tuple[Pool, int]]:
        spec = part(service, "spec")
        numbers = [(self._addresses, number) for number in _addresses(spec)]
        return numbers + [(self._ports, port) for port in sorted(_used_ports(spec))]

    def _holds_address(self, owner: Owner, number: int) -> bool:
        return number in _addresses(self._stored_spec(owner))

    def _holds_port(self, owner: Owner, number: int) -> bool:
        return number in _used_ports(self._stored_spec(owner))

    def _stored_spec(self, owner: Owner) -> Object:
        namespace, name, _ = owner
        stored = self._reader.get("services", namespace, name) if self._reader else None
        return part(stored, "spec") if stored is not None and _owner(stored) == owner else {}

    def _leave(self, old: Object, new: Object) -> None:
        kept = self._numbers(new)
        for pool, number in self._numbers(old):
            if (pool, number) not in kept:
                pool.leave(number)

    # What a service needs

    def _cluster_ip(self, write: Write, taken: list[tuple[Pool, int]]) -> None:
        spec: Object = write.new["spec"]
        if not needs_cluster_ip(spec) or spec.get("clusterIP") == "None":
            return
        if write.old is not None and needs_cluster_ip(part(write.old, "spec")):
            return
        owner = _owner(write.new)
        wanted = text(spec, "clusterIP")
        if not wanted:
            try:
                number = self._addresses.next(owner)
            except Exhausted:
                raise internal("failed to allocate a serviceIP: range is full") from None
            address = str(IPv4Address(number))
            spec["clusterIP"], spec["clusterIPs"] = address, [address]
            taken.append((self._addresses, number))
        else:
            taken.append((self._addresses, self._take_address(spec, wanted, owner)))

    def _take_address(self, spec: Object, wanted: str, owner: Owner) -> int:
        try:
            number = int(IPv4Address(wanted))
            self._addresses.take(number, owner)
        except (OutOfRange, ValueError):
            why = "the provided network does not match the current range"
        except Taken:
            why = "provided IP is already allocated"
        else:
            return number
        shown = spec.get("clusterIPs") or [wanted]
        raise _Refused(invalid_value("spec.clusterIPs", shown, f"failed to allocate IP {wanted}: {why}"))

    def _node_ports(self, write: Write, taken: list[tuple[Pool, int]]) -> None:
        spec: Object = write.new["spec"]
        if not needs_node_ports(spec):
            return
        ports: Sequence[Object] = entries(spec, "ports")
        given = [port for port in enumerate(ports) if port[1].get("nodePort") or allocates_node_ports(spec)]
        if write.old is None:
            self._new_node_ports(given, _owner(write.new), taken)
        else:
            self._changed_node_ports(given, _owner(write.new), taken, _used_ports(part(write.old, "spec")))

    def _new_node_ports(self, ports: _Ports, owner: Owner, taken: list[tuple[Pool, int]]) -> None:
        """Ports of one number, by several protocols, share a node port."""
        by_port: dict[int, int] = {}
        for index, port in ports:
            number, wanted = port.get("port") or 0, port.get("nodePort") or 0
            path = f"spec.ports[{index}].nodePort"
            if number not in by_port:
                asked = (p["nodePort"] for _, p in ports if (p.get("port") or 0) == number and p.get("nodePort"))
                shared = next(asked, 0)
                if shared:
                    self._take_port(shared, owner, path, taken)
                by_port[number] = shared or self._next_port(owner, taken)
                port["nodePort"] = by_port[number]
            elif not wanted:
                port["nodePort"] = by_port[number]
            elif wanted != by_port[number]:
                self._take_port(wanted, owner, path, taken)

    def _changed_node_ports(self, ports: _Ports, owner: Owner, taken: list[tuple[Pool, int]], held: set[int]) -> None:
        for index, port in ports:
            wanted = port.get("nodePort") or 0
            if not wanted:
                port["nodePort"] = self._next_port(owner, taken)
            elif wanted not in held and (self._ports, wanted) not in taken:
                self._take_port(wanted, owner, f"spec.ports[{index}].nodePort", taken)

    def _take_port(self, number: int, owner: Owner, path: str, taken: list[tuple[Pool, int]]) -> None:
        if why := self._reserve(number, owner, taken):
            raise _Refused(invalid_value(path, number, why))

    def _reserve(self, number: int, owner: Owner, taken: list[tuple[Pool, int]]) -> str:
        """Takes the port, or says why that cannot be."""
        try:
            if (self._ports, number) in taken:
                raise Taken
            self._ports.take(number, owner)
        except OutOfRange:
            first, last = NODE_PORTS
            return f"provided port is not in the valid range. The range of valid ports is {first}-{last}"
        except Taken:
            return "provided port is already allocated"
        taken.append((self._ports, number))
        return ""

    def _next_port(self, owner: Owner, taken: list[tuple[Pool, int]], what: str = "a nodePort") -> int:
        try:
            number = self._ports.next(owner)
        except Exhausted:
            raise internal(f"failed to allocate {what}: range is full") from None
        taken.append((self._ports, number))
        return number

    def _health_check_port(self, write: Write, taken: list[tuple[Pool, int]]) -> None:
        spec: Object = write.new["spec"]
        had_one = write.old is not None and needs_health_check(part(write.old, "spec"))
        if had_one or not needs_health_check(spec):
            return
        owner, wanted = _owner(write.new), spec.get("healthCheckNodePort") or 0
        if not wanted:
            spec["healthCheckNodePort"] = self._next_port(owner, taken, "a HealthCheck NodePort 0")
        elif why := self._reserve(wanted, owner, taken):
            raise internal(f"failed to allocate requested HealthCheck NodePort {wanted}: {why}")


class _Refused(Exception):
    def __init__(self, error: FieldError) -> None:
        super().__init__(str(error))
        self.error = error


def _refused(write: Write, errors: list[FieldError]) -> Exception:
    return invalid("Service", "", text(part(write.new, "metadata"), "name"), errors)


def _give_back(taken: list[tuple[Pool, int]]) -> None:
    for pool, number in taken:
        pool.free(number)


def _owner(service: Object) -> Owner:
    meta = part(service, "metadata")
    return text(meta, "namespace"), text(meta, "name"), text(meta, "uid")


def _addresses(spec: Object) -> set[int]:
    given: list[Any] = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    return {int(ip_address(ip)) for ip in given if ip and not names.ip(ip) and ":" not in ip}


def _used_ports(spec: Object) -> set[int]:
    ports = {p.get("nodePort") or 0 for p in entries(spec, "ports")}
    return {*ports, spec.get("healthCheckNodePort") or 0} - {0}


def _families(write: Write) -> None:
    """One family, IPv4: what people may say about families is completed to that, or refused."""
    spec: Object = write.new["spec"]
    before = part(write.old or {}, "spec")
    if not needs_cluster_ip(spec) or _still_prefers_two(spec, before):
        return
    headless_alone = text(spec, "clusterIP") == "None" and not spec.get("selector")
    if spec.get("ipFamilyPolicy") is None:
        spec["ipFamilyPolicy"] = before.get("ipFamilyPolicy") or (
            "RequireDualStack" if headless_alone else "SingleStack"
        )
    if errors := cluster_ip_rules(spec, before):
        raise _refused(write, errors)
    errors = _released(spec, before) if before else []
    errors += _too_many(spec)
    errors += _infer_families(spec)
    if errors:
        raise _refused(write, errors)
    if headless_alone:
        families: list[str] = entries(spec, "ipFamilies") or [_FAMILY]
        if len(families) < 2 and spec["ipFamilyPolicy"] != "SingleStack":
            families = [families[0], "IPv6" if families[0] == "IPv4" else "IPv4"]
        spec["ipFamilies"] = families
        return
    if errors := _not_here(spec):
        raise _refused(write, errors)
    spec["ipFamilies"] = entries(spec, "ipFamilies") or [_FAMILY]


def _still_prefers_two(spec: Object, before: Object) -> bool:
    keys = ("clusterIPs", "ipFamilies")
    both = spec.get("ipFamilyPolicy") == before.get("ipFamilyPolicy") == "PreferDualStack"
    return both and all(entries(spec, key) == entries(before, key) for key in keys)


_CALLED: Final = (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family"))


def _released(spec: Object, before: Object) -> list[FieldError]:
    """`SingleStack` alone takes the second address away; other policies must not lose it."""
    errors: list[FieldError] = []
    policy = spec["ipFamilyPolicy"]
    for key, called in _CALLED:
        new, old = entries(spec, key), entries(before, key)
        if policy == "SingleStack":
            if new == old and len(new) > 1:
                spec[key] = new[:1]
        elif new and len(new) < len(old):
            detail = f"must be 'SingleStack' to release the secondary {called}"
            errors.append(invalid_value("spec.ipFamilyPolicy", policy, detail))
    return errors


def _too_many(spec: Object) -> list[FieldError]:
    policy = spec["ipFamilyPolicy"]
    if policy != "SingleStack":
        return []
    detail = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
    called = (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families"))
    many = [many for key, many in called if len(entries(spec, key)) == 2]
    return [invalid_value("spec.ipFamilyPolicy", policy, detail.format(name)) for name in many]


def _infer_families(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    addresses: list[str] = entries(spec, "clusterIPs")
    families: list[str] = list(entries(spec, "ipFamilies"))
    for index, address in enumerate(addresses):
        if address == "None":
            break
        family = family_of(address)
        if index < len(families):
            continue
        if family == _FAMILY:
            families.append(family)
        else:
            detail = f"{family} is not configured on this cluster"
            errors.append(invalid_value(f"spec.clusterIPs[{index}]", addresses, detail))
    if families:
        spec["ipFamilies"] = families
    return errors


def _not_here(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if spec["ipFamilyPolicy"] == "RequireDualStack":
        detail = "this cluster is not configured for dual-stack services"
        errors.append(invalid_value("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], detail))
    for index, family in enumerate(entries(spec, "ipFamilies")):
        if family != _FAMILY:
            errors.append(invalid_value(f"spec.ipFamilies[{index}]", family, "not configured on this cluster"))
    return errors
