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
    cluster_ip_rules,
    externally_accessible,
    is_headless,
    needs_cluster_ip,
    needs_health_check,
    needs_node_ports,
)
from podling.kinds.printing import NONE, age, age_column, doc, name, name_column
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
_KUBELET_PORT: Final = 10250


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    fill(spec, "sessionAffinity", "None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client: Object = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        if client.get("timeoutSeconds") is None:
            client["timeoutSeconds"] = _AFFINITY_SECONDS
    fill(spec, "type", "ClusterIP")
    for port in entries(spec, "ports"):
        fill(port, "protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    _default_traffic(spec)
    status: Object = obj.setdefault("status", {})
    for ingress in status.setdefault("loadBalancer", {}).get("ingress") or ():
        if ingress.get("ip") and ingress.get("ipMode") is None:
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
    write.new["status"] = write.old.get("status") or {"loadBalancer": {}}
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
        for key in ("ipFamilies", "ipFamilyPolicy"):
            if not spec.get(key):
                _set(spec, key, before.get(key))
    if needs_node_ports(before) and needs_node_ports(spec):
        _keep_node_ports(spec, before)
    if needs_health_check(before) and needs_health_check(spec) and not spec.get("healthCheckNodePort"):
        _set(spec, "healthCheckNodePort", before.get("healthCheckNodePort"))


def _keep_node_ports(spec: Object, before: Object) -> None:
    def key(port: Object) -> tuple[Any, Any]:
        return port.get("protocol"), port.get("port")

    ports: Sequence[Object] = entries(spec, "ports")
    used = {p.get("nodePort") for p in ports}
    held = {key(p): p.get("nodePort") for p in entries(before, "ports")}
    for port in ports:
        number = held.get(key(port))
        if not port.get("nodePort") and number and number not in used:
            port["nodePort"] = number


def _set(spec: Object, key: str, value: Any) -> None:
    if value:
        spec[key] = value
    else:
        spec.pop(key, None)


def _follow_cluster_ip(spec: Object, before: Object) -> None:
    """Who changes `clusterIP` alone means `clusterIPs` too."""
    address = text(spec, "clusterIP")
    same_list = entries(spec, "clusterIPs") == entries(before, "clusterIPs")
    if address != text(before, "clusterIP") and same_list:
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
    if needs_node_ports(before) and not needs_node_ports(spec):
        held = {p.get("nodePort") for p in entries(before, "ports")}
        if {p.get("nodePort") for p in entries(spec, "ports")} <= held:
            for port in entries(spec, "ports"):
                port.pop("nodePort", None)


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write, names.label_name)
    if write.subresource == "status":
        return errors + _load_balancer(part(write.new, "status", "loadBalancer"), part(write.new, "spec"))
    spec = part(write.new, "spec")
    if write.old is not None:
        errors += _address_change(spec, part(write.old, "spec"))
    return errors + _spec(spec)


def _address_change(spec: Object, before: Object) -> list[FieldError]:
    """The primary address and family stay for as long as the type needs them."""
    if not (needs_cluster_ip(spec) and needs_cluster_ip(before)):
        return []
    errors: list[FieldError] = []
    for key, called in (("clusterIPs", "clusterIP"), ("ipFamilies", "ipFamily")):
        old, new = entries(before, key), entries(spec, key)
        if not old:
            continue
        if not new:
            errors.append(invalid_value(f"spec.{key}[0]", new or None, f"primary {called} can not be unset"))
        elif new[0] != old[0]:
            errors.append(invalid_value(f"spec.{key}[0]", new, "may not change once set"))
    return errors


def _spec(spec: Object) -> list[FieldError]:
    kind, headless = text(spec, "type"), is_headless(spec)
    ports: Sequence[Object] = entries(spec, "ports")
    errors: list[FieldError] = []
    if not ports and not headless and kind != "ExternalName":
        errors.append(required("spec.ports"))
    errors += _type_rules(spec, kind, headless)
    seen: set[str] = set()
    for at, port in each("spec.ports", ports):
        errors += _port(port, at, len(ports) > 1, seen)
    errors += fields.labels("spec.selector", spec.get("selector"))
    errors += _affinity(spec)
    errors += cluster_ip_rules(spec)
    errors += _external_ips(spec)
    errors += fields.one_of_required("spec.type", kind, _TYPES)
    errors += _port_clashes(ports, kind)
    errors += _source_ranges(spec, kind)
    errors += _traffic(spec)
    return errors


def _type_rules(spec: Object, kind: str, headless: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    match kind:
        case "LoadBalancer" | "NodePort":
            for at, port in each("spec.ports", spec.get("ports")):
                if kind == "LoadBalancer" and port.get("port") == _KUBELET_PORT:
                    detail = f"may not expose port {_KUBELET_PORT} externally since it is used by kubelet"
                    errors.append(invalid_value(f"{at}.port", port["port"], detail))
            if headless:
                detail = f"may not be set to 'None' for {kind} services"
                errors.append(invalid_value("spec.clusterIPs[0]", "None", detail))
        case "ExternalName":
            target = text(spec, "externalName").removesuffix(".")
            errors += fields.check_required("spec.externalName", target, names.dns1123_subdomain)
        case _:
            pass
    return errors


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
        detail = "must not be set when session affinity is None"
        errors.append(forbidden_field(path, detail))
    if kind != "ClientIP":
        return errors
    seconds = part(config or {}, "clientIP").get("timeoutSeconds")
    if seconds is None:
        return [*errors, required(path, f"when session affinity type is {kind}")]
    if not 0 < seconds <= _MAX_AFFINITY_SECONDS:
        detail = f"must be greater than 0 and less than {_MAX_AFFINITY_SECONDS}"
        errors.append(invalid_value(f"{path}.clientIP.timeoutSeconds", seconds, detail))
    return errors


def _external_ips(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, address in each("spec.externalIPs", spec.get("externalIPs")):
        wrong = names.ip(address)
        errors += fields.says(at, address, wrong or names.special_ip(address))
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


def _source_ranges(spec: Object, kind: str) -> list[FieldError]:
    errors: list[FieldError] = []
    only = "may only be used when `type` is 'LoadBalancer'"
    if ranges := spec.get("loadBalancerSourceRanges"):
        if kind != "LoadBalancer":
            errors.append(forbidden_field("spec.LoadBalancerSourceRanges", only))
        for at, value in each("spec.LoadBalancerSourceRanges", ranges):
            errors += fields.says(at, value, names.cidr(value.strip()))
    allocate = spec.get("allocateLoadBalancerNodePorts")
    if kind == "LoadBalancer" and allocate is None:
        errors.append(required("spec.allocateLoadBalancerNodePorts"))
    elif kind != "LoadBalancer" and allocate is not None:
        errors.append(forbidden_field("spec.allocateLoadBalancerNodePorts", only))
    if (class_ := spec.get("loadBalancerClass")) is not None:
        if kind != "LoadBalancer":
            errors.append(forbidden_field("spec.loadBalancerClass", only))
        else:
            errors += fields.check("spec.loadBalancerClass", class_, names.qualified_name)
    return errors


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


def _load_balancer(balancer: Object, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    path = "status.loadBalancer.ingress"
    if balancer.get("ingress") and text(spec, "type") != "LoadBalancer":
        errors.append(forbidden_field(path, "may only be used when `spec.type` is 'LoadBalancer'"))
    for at, ingress in each(path, balancer.get("ingress")):
        if address := text(ingress, "ip"):
            errors += fields.check(f"{at}.ip", address, names.ip)
        mode = ingress.get("ipMode")
        if mode is not None and not address:
            errors.append(forbidden_field(f"{at}.ipMode", "may not be specified when `ip` is not set"))
        elif mode is not None:
            errors += fields.one_of(f"{at}.ipMode", mode, ("Proxy", "VIP"))
        if host := text(ingress, "hostname"):
            errors += fields.check(f"{at}.hostname", host, names.dns1123_subdomain)
    return errors


def warn(write: Write) -> None:
    if write.subresource:
        return
    spec = part(write.new, "spec")
    if is_headless(spec):
        for key, shown in (("loadBalancerIP", "loadBalancerIP"), ("externalIPs", "externalIPs")):
            if spec.get(key):
                write.warnings.append(f"spec.{shown} is ignored for headless services")
        if text(spec, "sessionAffinity") != "None":
            write.warnings.append("spec.SessionAffinity is ignored for headless services")
    elif spec.get("externalIPs"):
        if text(spec, "type") == "ExternalName":
            write.warnings.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
        else:
            write.warnings.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if spec.get("trafficDistribution") == "PreferClose":
        write.warnings.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')


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
        case _:
            return ",".join(given) or NONE


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
