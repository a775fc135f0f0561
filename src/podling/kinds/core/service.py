"""Service: one stable address for the pods that a selector picks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds import printing
from podling.kinds.core.containers import PROTOCOLS
from podling.kinds.core.poddefaults import fill
from podling.kinds.core.serviceaddresses import Allocator
from podling.kinds.core.servicerules import (
    address_change,
    cluster_ip_rules,
    externally_accessible,
    is_headless,
    needs_cluster_ip,
    needs_health_check,
    needs_node_ports,
)
from podling.kinds.printing import NONE, UNKNOWN, age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_AFFINITIES: Final = ("ClientIP", "None")
_TRAFFIC: Final = ("Cluster", "Local")
_DISTRIBUTIONS: Final = ("PreferClose", "PreferSameZone", "PreferSameNode")
_AFFINITY_SECONDS: Final = 3 * 60 * 60
_MAX_AFFINITY_SECONDS: Final = 24 * 60 * 60
_HINTS: Final = "service.kubernetes.io/topology-aware-hints"
_TOPOLOGY: Final = "service.kubernetes.io/topology-mode"
_SOURCE_RANGES: Final = "service.beta.kubernetes.io/load-balancer-source-ranges"


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    fill(spec, "sessionAffinity", "None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    client = part(spec, "sessionAffinityConfig", "clientIP")
    if spec["sessionAffinity"] == "ClientIP" and client.get("timeoutSeconds") is None:
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": _AFFINITY_SECONDS}}
    fill(spec, "type", "ClusterIP")
    for port in entries(spec, "ports"):
        fill(port, "protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    _default_traffic(spec)
    status: Object = obj.setdefault("status", {})
    for ingress in status.setdefault("loadBalancer", {}).get("ingress") or ():
        if spec["type"] == "LoadBalancer" and ingress.get("ip") and ingress.get("ipMode") is None:
            ingress["ipMode"] = "VIP"


def _default_traffic(spec: Object) -> None:
    if externally_accessible(spec):
        fill(spec, "externalTrafficPolicy", "Cluster")
    if needs_cluster_ip(spec) and spec.get("internalTrafficPolicy") is None:
        spec["internalTrafficPolicy"] = "Cluster"
    if spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is None:
        spec["allocateLoadBalancerNodePorts"] = True


def prepare(write: Write) -> None:
    if write.subresource == "status":
        return
    spec: Object = write.new["spec"]
    if write.old is None:
        write.new["status"] = {"loadBalancer": {}}
        if text(spec, "clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        return
    before = part(write.old, "spec")
    kept: Object = write.old.get("status") or {"loadBalancer": {}}
    write.new["status"] = kept if _is_load_balancer(spec) else {**kept, "loadBalancer": {}}
    _keep_allocated(spec, before)
    _follow_cluster_ip(spec, before)
    _drop_for_type(spec, before)


def _keep_allocated(spec: Object, before: Object) -> None:
    """An update that does not speak of what was given to the service keeps it."""
    if needs_cluster_ip(before) and needs_cluster_ip(spec):
        if not text(spec, "clusterIP") and text(before, "clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
        if not spec.get("clusterIPs") and text(spec, "clusterIP") == text(before, "clusterIP"):
            _set(spec, "clusterIPs", before.get("clusterIPs"))
    if needs_node_ports(before) and needs_node_ports(spec):
        _keep_node_ports(spec, before)
    if needs_health_check(before) and needs_health_check(spec) and not spec.get("healthCheckNodePort"):
        _set(spec, "healthCheckNodePort", before.get("healthCheckNodePort"))


def _node_ports(spec: Object) -> set[int]:
    return {p["nodePort"] for p in entries(spec, "ports") if p.get("nodePort")}


def _keep_node_ports(spec: Object, before: Object) -> None:
    """A port keeps its number by its name, be it the same otherwise or not."""
    used = _node_ports(spec) & _node_ports(before)
    held = {text(p, "name"): p.get("nodePort") or 0 for p in entries(before, "ports")}
    for port in entries(spec, "ports"):
        number = held.get(text(port, "name"), 0)
        if not port.get("nodePort") and number and number not in used:
            port["nodePort"] = number
            used.add(number)


def _set(spec: Object, key: str, value: Any) -> None:
    if value:
        spec[key] = value
    else:
        spec.pop(key, None)


def _follow_cluster_ip(spec: Object, before: Object) -> None:
    """Who changes `clusterIP` alone means `clusterIPs` too."""
    address = text(spec, "clusterIP")
    if address == text(before, "clusterIP"):
        if not spec.get("clusterIPs"):
            _set(spec, "clusterIPs", before.get("clusterIPs"))
    elif entries(spec, "clusterIPs") == entries(before, "clusterIPs"):
        _set(spec, "clusterIPs", [address] if address else None)


def _is_load_balancer(spec: Object) -> bool:
    return text(spec, "type") == "LoadBalancer"


_BY_TYPE: Final = (
    (needs_cluster_ip, ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")),
    (needs_health_check, ("healthCheckNodePort",)),
    (_is_load_balancer, ("allocateLoadBalancerNodePorts", "loadBalancerClass")),
    (externally_accessible, ("externalTrafficPolicy",)),
)


def _drop_for_type(spec: Object, before: Object) -> None:
    """What the old type needed and the new one does not goes, unless the update itself set it."""
    for needed, keys in _BY_TYPE:
        if needed(before) and not needed(spec):
            for key in keys:
                if spec.get(key) == before.get(key):
                    spec.pop(key, None)
    if needs_node_ports(before) and not needs_node_ports(spec) and _node_ports(spec) <= _node_ports(before):
        for port in entries(spec, "ports"):
            port.pop("nodePort", None)


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write, names.label_name)
    spec = part(write.new, "spec")
    if write.subresource == "status":
        return errors + _load_balancer(write, spec)
    if write.old is not None:
        errors += _change(spec, part(write.old, "spec"))
    return errors + _spec(write, spec, part(write.old or {}, "spec"))


def _change(spec: Object, before: Object) -> list[FieldError]:
    errors = address_change(spec, before)
    if _is_load_balancer(spec) and _is_load_balancer(before):
        new, old = spec.get("loadBalancerClass"), before.get("loadBalancerClass")
        if new != old:
            errors.append(invalid_value("spec.loadBalancerClass", new, "may not change once set"))
    errors += _load_balancer_class(spec)
    if needs_health_check(before) and needs_health_check(spec):
        key = "healthCheckNodePort"
        if (spec.get(key) or 0) != (before.get(key) or 0):
            errors.append(forbidden_field(f"spec.{key}", fields.IMMUTABLE))
    return errors


def _spec(write: Write, spec: Object, before: Object) -> list[FieldError]:
    kind, headless = text(spec, "type"), is_headless(spec)
    ports: Sequence[Object] = entries(spec, "ports")
    errors = _topology(write.new)
    if not ports and not headless and kind != "ExternalName":
        errors.append(required("spec.ports"))
    errors += _type_rules(spec, kind, headless)
    seen: set[str] = set()
    for at, port in each("spec.ports", ports):
        errors += _port(port, at, len(ports) > 1, seen)
    errors += fields.labels("spec.selector", spec.get("selector"))
    errors += _affinity(spec)
    errors += cluster_ip_rules(spec, before)
    errors += _external_ips(spec, before)
    errors += fields.one_of_required("spec.type", kind, _TYPES)
    errors += _port_clashes(ports, kind)
    errors += _source_ranges(write, spec, before)
    errors += _allocates(spec, kind)
    errors += _load_balancer_class(spec)
    errors += _traffic(spec)
    return errors


def _annotations(obj: Object) -> Object:
    return part(obj, "metadata", "annotations")


def _topology(service: Object) -> list[FieldError]:
    annotations = _annotations(service)
    mode, hints = annotations.get(_TOPOLOGY), annotations.get(_HINTS)
    if mode is None or hints is None or mode == hints:
        return []
    detail = f"must match annotations[{_HINTS}] when both are specified"
    return [invalid_value(f"metadata.annotations[{_TOPOLOGY}]", mode, detail)]


def _type_rules(spec: Object, kind: str, headless: bool) -> list[FieldError]:
    if kind in ("LoadBalancer", "NodePort") and headless:
        return [invalid_value("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")]
    if kind != "ExternalName":
        return []
    errors: list[FieldError] = []
    for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(key):
            errors.append(forbidden_field(f"spec.{key}", "may not be set for ExternalName services"))
    target = text(spec, "externalName").removesuffix(".")
    return errors + fields.check_required("spec.externalName", target, names.dns1123_subdomain)


def _port(port: Object, path: str, named: bool, seen: set[str]) -> list[FieldError]:
    name_ = text(port, "name")
    errors: list[FieldError] = []
    if named and not name_:
        errors.append(required(f"{path}.name"))
    elif name_:
        errors += fields.check(f"{path}.name", name_, names.dns1123_label)
        if name_ in seen:
            errors.append(duplicate(f"{path}.name", name_))
        seen.add(name_)
    errors += fields.port(f"{path}.port", port.get("port") or 0)
    errors += fields.one_of_required(f"{path}.protocol", text(port, "protocol"), PROTOCOLS)
    errors += fields.port_or_name(f"{path}.targetPort", port.get("targetPort", 0))
    if (protocol := port.get("appProtocol")) is not None:
        errors += fields.check(f"{path}.appProtocol", protocol, names.qualified_name)
    return errors


def _affinity(spec: Object) -> list[FieldError]:
    kind, config = text(spec, "sessionAffinity"), spec.get("sessionAffinityConfig")
    errors = fields.one_of_required("spec.sessionAffinity", kind, _AFFINITIES)
    path = "spec.sessionAffinityConfig"
    if kind == "None" and config is not None:
        errors.append(forbidden_field(path, "must not be set when session affinity is None"))
    return errors + _client_affinity(path, config) if kind == "ClientIP" else errors


def _client_affinity(path: str, config: Object | None) -> list[FieldError]:
    """Defaulting fills in what is missing, so that only the number can be wrong."""
    seconds: int = part(config or {}, "clientIP").get("timeoutSeconds") or 0
    if 0 < seconds <= _MAX_AFFINITY_SECONDS:
        return []
    detail = f"must be greater than 0 and less than {_MAX_AFFINITY_SECONDS}"
    return [invalid_value(f"{path}.clientIP.timeoutSeconds", seconds, detail)]


def _external_ips(spec: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, address in each("spec.externalIPs", spec.get("externalIPs")):
        wrong = fields.new_ip(at, address, entries(before, "externalIPs"))
        errors += wrong or fields.check(at, address, names.special_ip)
    return errors


def _port_clashes(ports: Sequence[Object], kind: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if kind == "ClusterIP":
        for at, port in each("spec.ports", ports):
            if port.get("nodePort"):
                detail = "may not be used when `type` is 'ClusterIP'"
                errors.append(forbidden_field(f"{at}.nodePort", detail))
    node_ports: set[tuple[str, int]] = set()
    for at, port in each("spec.ports", ports):
        number = port.get("nodePort") or 0
        key = (text(port, "protocol"), number)
        if number and key in node_ports:
            errors.append(duplicate(f"{at}.nodePort", number))
        node_ports.add(key)
    seen: set[tuple[str, int]] = set()
    for at, port in each("spec.ports", ports):
        key = (text(port, "protocol"), port.get("port") or 0)
        if key in seen:
            errors.append(duplicate(at, _port_key(*key)))
        seen.add(key)
    return errors


def _port_key(protocol: str, number: int) -> Object:
    """Kubernetes shows the whole struct that it compares by, with all but two of its fields empty."""
    return {"Name": "", "Protocol": protocol, "AppProtocol": None, "Port": number, "TargetPort": 0, "NodePort": 0}


_ONLY_LOAD_BALANCER: Final = "may only be used when `type` is 'LoadBalancer'"


def _source_ranges(write: Write, spec: Object, before: Object) -> list[FieldError]:
    if ranges := entries(spec, "loadBalancerSourceRanges"):
        path, known = "spec.LoadBalancerSourceRanges", [r.strip() for r in entries(before, "loadBalancerSourceRanges")]
        errors = [] if _is_load_balancer(spec) else [forbidden_field(path, _ONLY_LOAD_BALANCER)]
        for at, value in each(path, ranges):
            errors += fields.new_cidr(at, value.strip(), known)
        return errors
    given = _annotations(write.new).get(_SOURCE_RANGES)
    if given is None:
        return []
    path = f"metadata.annotations[{_SOURCE_RANGES}]"
    errors = [] if _is_load_balancer(spec) else [forbidden_field(path, _ONLY_LOAD_BALANCER)]
    if given.strip() and (write.old is None or _annotations(write.old).get(_SOURCE_RANGES) != given):
        for value in given.strip().split(","):
            errors += fields.new_cidr(path, value.strip())
    return errors


def _allocates(spec: Object, kind: str) -> list[FieldError]:
    allocate = spec.get("allocateLoadBalancerNodePorts")
    if kind != "LoadBalancer" and allocate is not None:
        return [forbidden_field("spec.allocateLoadBalancerNodePorts", _ONLY_LOAD_BALANCER)]
    missing = kind == "LoadBalancer" and allocate is None
    return [required("allocateLoadBalancerNodePorts")] if missing else []


def _load_balancer_class(spec: Object) -> list[FieldError]:
    class_, path = spec.get("loadBalancerClass"), "spec.loadBalancerClass"
    if class_ is None:
        return []
    if _is_load_balancer(spec):
        return fields.check(path, class_, names.qualified_name)
    return [forbidden_field(path, _ONLY_LOAD_BALANCER)]


def _traffic(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    external = text(spec, "externalTrafficPolicy")
    path = "spec.externalTrafficPolicy"
    if externally_accessible(spec):
        errors += fields.one_of_required(path, external, _TRAFFIC)
    elif external:
        errors.append(invalid_value(path, external, "may only be set for externally-accessible services"))
    errors += _health_check_port(spec)
    internal = spec.get("internalTrafficPolicy")
    if internal is not None:
        errors += fields.one_of("spec.internalTrafficPolicy", internal, _TRAFFIC)
    elif needs_cluster_ip(spec):
        errors.append(required("spec.internalTrafficPolicy"))
    if (distribution := spec.get("trafficDistribution")) is not None:
        errors += fields.one_of("spec.trafficDistribution", distribution, _DISTRIBUTIONS)
    return errors


def _health_check_port(spec: Object) -> list[FieldError]:
    number = spec.get("healthCheckNodePort") or 0
    path = "spec.healthCheckNodePort"
    if needs_health_check(spec):
        return fields.port(path, number) if number else [required(path)]
    if not number:
        return []
    detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
    return [invalid_value(path, number, detail)]


def _load_balancer(write: Write, spec: Object) -> list[FieldError]:
    path = "status.loadBalancer.ingress"
    ingress = entries(part(write.new, "status", "loadBalancer"), "ingress")
    if ingress and text(spec, "type") != "LoadBalancer":
        return [forbidden_field(path, "may only be used when `spec.type` is 'LoadBalancer'")]
    old = entries(part(write.old or {}, "status", "loadBalancer"), "ingress")
    return load_balancer_ingress(path, ingress, old)


def load_balancer_ingress(path: str, ingress: list[Object], old: list[Object]) -> list[FieldError]:
    known = [text(i, "ip") for i in old if text(i, "ip")]
    errors: list[FieldError] = []
    for at, item in each(path, ingress):
        address, mode, host = text(item, "ip"), item.get("ipMode"), text(item, "hostname")
        if address:
            errors += fields.new_ip(f"{at}.ip", address, known)
        if mode is None and address:
            errors.append(required(f"{at}.ipMode", "must be specified when `ip` is set"))
        elif mode is not None and not address:
            errors.append(forbidden_field(f"{at}.ipMode", "may not be specified when `ip` is not set"))
        elif mode is not None:
            errors += fields.one_of(f"{at}.ipMode", mode, ("Proxy", "VIP"))
        if host:
            errors += fields.check(f"{at}.hostname", host, names.dns1123_subdomain)
            if names.parse_ip(host) is not None:
                errors.append(invalid_value(f"{at}.hostname", host, "must be a DNS name, not an IP address"))
    return errors


def warn(write: Write) -> None:
    if write.subresource:
        return
    spec, warnings = part(write.new, "spec"), write.warnings
    if _HINTS in _annotations(write.new):
        warnings.append(f"annotation {_HINTS} is deprecated, please use {_TOPOLOGY} instead")
    headless = text(spec, "clusterIP") == "None" and text(spec, "type") == "ClusterIP"
    if not headless and text(spec, "clusterIP"):
        _warn_addresses(write, spec, "clusterIPs")
    if headless:
        _warn_headless(write, spec)
    _warn_addresses(write, spec, "externalIPs")
    warnings += names.ip_warnings("spec.loadBalancerIP", text(spec, "loadBalancerIP"))
    for at, value in each("spec.loadBalancerSourceRanges", spec.get("loadBalancerSourceRanges")):
        warnings += names.cidr_warnings(at, value)
    if spec.get("externalIPs") and text(spec, "type") == "ExternalName":
        warnings.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    elif spec.get("externalIPs") and not headless:
        warnings.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if text(spec, "type") != "ExternalName" and text(spec, "externalName"):
        warnings.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        warnings.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')


def _warn_addresses(write: Write, spec: Object, key: str) -> None:
    for at, address in each(f"spec.{key}", spec.get(key)):
        write.warnings += names.ip_warnings(at, address)


def _warn_headless(write: Write, spec: Object) -> None:
    for key in ("loadBalancerIP", "externalIPs"):
        if spec.get(key):
            write.warnings.append(f"spec.{key} is ignored for headless services")
    if text(spec, "sessionAffinity") != "None":
        write.warnings.append("spec.SessionAffinity is ignored for headless services")


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Type", description=doc("core.v1.ServiceSpec.type")),
        Column("Cluster-IP", description=doc("core.v1.ServiceSpec.clusterIP")),
        Column("External-IP", description=doc("core.v1.ServiceSpec.externalIPs")),
        Column("Port(s)", description=doc("core.v1.ServiceSpec.ports")),
        age_column(),
        Column("Selector", description=doc("core.v1.ServiceSpec.selector"), priority=1),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    addresses: list[str] = entries(spec, "clusterIPs")
    return [
        name(obj),
        text(spec, "type"),
        addresses[0] if addresses else text(spec, "clusterIP") or NONE,
        _external(obj),
        ",".join(_port_text(p) for p in entries(spec, "ports")) or NONE,
        age(obj, now),
        printing.labels(spec.get("selector")),
    ]


def _external(obj: Object) -> str:
    spec = part(obj, "spec")
    given: list[str] = entries(spec, "externalIPs")
    match text(spec, "type"):
        case "ExternalName":
            return text(spec, "externalName")
        case "LoadBalancer":
            ingress = entries(part(obj, "status", "loadBalancer"), "ingress")
            addresses = sorted({text(i, "ip") or text(i, "hostname") for i in ingress} - {""})
            return ",".join([*addresses, *given]) or "<pending>"
        case "ClusterIP" | "NodePort":
            return ",".join(given) or NONE
        case _:
            return UNKNOWN


def _port_text(port: Object) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port', 0)}{node_port}/{text(port, 'protocol')}"


def resource() -> Resource:
    allocator = Allocator()
    return Resource(
        group="",
        version="v1",
        kind="Service",
        plural="services",
        singular="service",
        namespaced=True,
        schema="io.k8s.api.core.v1.Service",
        short_names=("svc",),
        categories=("all",),
        status=True,
        subresources=("proxy",),
        strategy=Strategy(
            create_on_update=True,
            default=default,
            prepare=prepare,
            allocate=allocator.allocate,
            validate=validate,
            warn=warn,
            released=allocator.released,
            generation=None,
            returns_deleted=True,
        ),
        columns=_columns(),
        row=row,
        selectable={
            "spec.clusterIP": lambda obj: text(part(obj, "spec"), "clusterIP"),
            "spec.type": lambda obj: text(part(obj, "spec"), "type"),
        },
    )
