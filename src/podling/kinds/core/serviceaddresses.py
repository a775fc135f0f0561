"""Gives services their cluster address, node ports and health-check port, and takes them back.

The steps are those of Kubernetes' service registry (`pkg/registry/core/service/storage/alloc.go`), for a cluster of
one IPv4 range.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any, Final

from podling.api.errors import FieldError, invalid, invalid_value
from podling.api.resources import Reader, Write
from podling.kinds.core.addresses import Exhausted, OutOfRange, Owner, Pool, Taken
from podling.kinds.core.servicerules import cluster_ip_rules, needs_cluster_ip, needs_health_check, needs_node_ports
from podling.kinds.validation import names
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

SERVICE_RANGE: Final = IPv4Network("10.96.0.0/16")
NODE_PORTS: Final = (30000, 32767)
_STATIC_ADDRESSES: Final = 256
_STATIC_PORTS: Final = 86


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
        if errors := cluster_ip_rules(write.new["spec"]):
            raise _refused(write, errors)
        self._families(write)
        taken: list[tuple[Pool, int]] = []
        try:
            self._cluster_ip(write, taken)
            self._node_ports(write, taken)
            self._health_check_port(write, taken)
        except _Refused as refused:
            _give_back(taken)
            raise _refused(write, [refused.error]) from refused
        if write.old is not None:
            if write.dry_run:
                _give_back(taken)
            else:
                self._leave(write.old, write.new)

    def released(self, service: Object) -> None:
        """Takes back everything a deleted service held, unless somebody else holds it by now."""
        owner = _owner(service)
        for pool, number in self._numbers(service):
            if pool.owner(number) == owner:
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

    def _families(self, write: Write) -> None:
        """One family, IPv4: what people may say about families is completed to that, or refused."""
        spec: Object = write.new["spec"]
        if not needs_cluster_ip(spec):
            return
        families: list[str] = entries(spec, "ipFamilies")
        headless_alone = spec.get("clusterIP") == "None" and not spec.get("selector")
        if spec.get("ipFamilyPolicy") is None:
            dual = len(families) == 2 or len(entries(spec, "clusterIPs")) == 2
            spec["ipFamilyPolicy"] = "RequireDualStack" if dual else "SingleStack"
        if headless_alone:
            if not families:
                both = spec["ipFamilyPolicy"] != "SingleStack"
                spec["ipFamilies"] = ["IPv4", "IPv6"] if both else ["IPv4"]
            return
        if errors := _family_errors(spec, families):
            raise _refused(write, errors)
        spec["ipFamilies"] = families[:1] or ["IPv4"]

    def _cluster_ip(self, write: Write, taken: list[tuple[Pool, int]]) -> None:
        spec: Object = write.new["spec"]
        if not needs_cluster_ip(spec) or spec.get("clusterIP") == "None":
            return
        owner = _owner(write.new)
        wanted = text(spec, "clusterIP")
        if not wanted:
            try:
                number = self._addresses.next(owner)
            except Exhausted:
                raise _Refused(
                    invalid_value("spec.clusterIPs", [""], "failed to allocate a serviceIP: range is full")
                ) from None
            address = str(IPv4Address(number))
            spec["clusterIP"], spec["clusterIPs"] = address, [address]
            taken.append((self._addresses, number))
        elif write.old is None or wanted != text(part(write.old, "spec"), "clusterIP"):
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
        owner = _owner(write.new)
        held = _used_ports(part(write.old, "spec")) if write.old is not None else set[int]()
        by_number: dict[int, set[int]] = {}
        ports: Sequence[Object] = entries(spec, "ports")
        for index, port in enumerate(ports):
            number = port.get("nodePort") or 0
            if number and number not in held and number not in by_number:
                self._take_port(number, owner, f"spec.ports[{index}].nodePort")
                taken.append((self._ports, number))
            if number:
                by_number.setdefault(number, set()).add(port.get("port") or 0)
        for index, port in enumerate(ports):
            if not port.get("nodePort") and write.new["spec"].get("allocateLoadBalancerNodePorts") is not False:
                port["nodePort"] = self._next_port(owner, f"spec.ports[{index}].nodePort", taken)

    def _take_port(self, number: int, owner: Owner, path: str) -> None:
        try:
            self._ports.take(number, owner)
        except OutOfRange:
            first, last = NODE_PORTS
            why = f"provided port is not in the valid range. The range of valid ports is {first}-{last}"
        except Taken:
            why = "provided port is already allocated"
        else:
            return
        raise _Refused(invalid_value(path, number, why))

    def _next_port(self, owner: Owner, path: str, taken: list[tuple[Pool, int]]) -> int:
        try:
            number = self._ports.next(owner)
        except Exhausted:
            raise _Refused(invalid_value(path, 0, "failed to allocate a nodePort: range is full")) from None
        taken.append((self._ports, number))
        return number

    def _health_check_port(self, write: Write, taken: list[tuple[Pool, int]]) -> None:
        spec: Object = write.new["spec"]
        if not needs_health_check(spec):
            return
        owner, wanted = _owner(write.new), spec.get("healthCheckNodePort") or 0
        if not wanted:
            spec["healthCheckNodePort"] = self._next_port(owner, "spec.healthCheckNodePort", taken)
        elif write.old is None or wanted != part(write.old, "spec").get("healthCheckNodePort"):
            self._take_port(wanted, owner, "spec.healthCheckNodePort")
            taken.append((self._ports, wanted))


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


def _family_errors(spec: Object, families: list[str]) -> list[FieldError]:
    errors = [
        invalid_value(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
        for index, family in enumerate(families)
        if family != "IPv4"
    ]
    addresses: list[str] = entries(spec, "clusterIPs")
    errors += [
        invalid_value(f"spec.clusterIPs[{index}]", address, "IPv6 is not configured on this cluster")
        for index, address in enumerate(addresses)
        if ":" in address
    ]
    if spec["ipFamilyPolicy"] == "RequireDualStack":
        detail = "this cluster is not configured for dual-stack services"
        errors.append(invalid_value("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], detail))
    return errors
