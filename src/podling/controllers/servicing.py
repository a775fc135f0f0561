"""What EndpointSlices and Endpoints have in common: which pods are behind a service, on which ports.

Source: "Service" and "EndpointSlices" in the Kubernetes documentation, and the API reference of both kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from podling.api import meta
from podling.api.client import Client
from podling.controllers import pods as podlib
from podling.controllers.runtime import ObjectKey, key_of
from podling.store.types import Change, Object

HEADLESS_LABEL = "service.kubernetes.io/headless"


TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


class TriggerTimes:
    """When what caused a change of endpoints happened, for those who measure how long it took to reach everybody."""

    def __init__(self) -> None:
        self._known: dict[ObjectKey, tuple[str, dict[str, str]]] = {}

    def latest(self, service: Object, pods: Iterable[Object]) -> str | None:
        """The earliest moment among what is new since the last call; of a service not seen before its creation."""
        created: str = meta.metadata(service).get("creationTimestamp", "")
        times = {meta.name(pod): (meta.condition(pod, "Ready") or {}).get("lastTransitionTime") or "" for pod in pods}
        known = self._known.get(key_of(service))
        self._known[key_of(service)] = (created, times)
        if known is None:
            return created or None
        fresh = [time for name, time in times.items() if time > known[1].get(name, "")]
        return min([*fresh, *([created] if created > known[0] else [])], default=None)

    def forget(self, key: ObjectKey) -> None:
        self._known.pop(key, None)


def triggered(annotations: Mapping[str, str], time: str | None) -> dict[str, str]:
    """The annotations, with the time of the change that they are about to be written for."""
    others = {name: value for name, value in annotations.items() if name != TRIGGER_TIME}
    return {**others, TRIGGER_TIME: time} if time else others


def selected_pods(client: Client, service: Object) -> list[Object]:
    selector = meta.part(service, "spec", "selector")
    return [
        pod for pod in client.list("pods", meta.namespace(service)) if meta.matches_labels(selector, meta.labels(pod))
    ]


def services_of_pod(client: Client, change: Change) -> Iterable[ObjectKey]:
    """The services that select a pod, before or after its change."""
    if change.previous is not None and not _matters(change.previous.object, change.entry.object, change.type):
        return
    for service in client.list("services", change.entry.key.namespace):
        selector = meta.spec(service).get("selector")
        if selector and any(
            meta.matches_labels(selector, meta.labels(entry.object))
            for entry in (change.previous, change.entry)
            if entry is not None
        ):
            yield key_of(service)


def _matters(old: Object, new: Object, type: str) -> bool:
    """Whether a change of a pod can change an endpoint: most status updates cannot."""
    return type == "DELETED" or _relevant(old) != _relevant(new)


def _relevant(pod: Object) -> tuple[object, ...]:
    spec, status = meta.spec(pod), meta.status(pod)
    return (
        meta.labels(pod),
        status.get("podIPs"),
        status.get("podIP"),
        podlib.is_ready(pod),
        podlib.phase(pod) in ("Succeeded", "Failed"),
        meta.deleting(pod),
        spec.get("nodeName"),
        spec.get("hostname"),
        spec.get("subdomain"),
    )


def has_endpoints(service: Object) -> bool:
    """Whether the service's endpoints come from pods: not without a selector, not for ExternalName."""
    return bool(meta.spec(service).get("selector")) and meta.spec(service).get("type") != "ExternalName"


def can_serve(pod: Object, *, terminating: bool) -> bool:
    """Whether a pod is an endpoint at all: it has an address and has not ended."""
    if podlib.phase(pod) in ("Succeeded", "Failed") or not addresses(pod):
        return False
    return terminating or not meta.deleting(pod)


def addresses(pod: Object) -> list[str]:
    status = meta.status(pod)
    return [item["ip"] for item in meta.items(status, "podIPs")] or [ip for ip in [status.get("podIP")] if ip]


def family(address: str) -> str:
    """`IPv4` or `IPv6` of a valid address."""
    return "IPv6" if ":" in address else "IPv4"


def is_headless(service: Object) -> bool:
    return meta.spec(service).get("clusterIP") in (None, "", "None")


def service_ports(service: Object) -> Sequence[Object]:
    return meta.items(service, "spec", "ports")


def pod_ports(service: Object, pod: Object) -> list[Object]:
    """The pod's ports behind the service's; a named target port that the pod does not have is left out."""
    ports: list[Object] = []
    for port in service_ports(service):
        number = find_port(pod, port)
        if number is None:
            continue
        found: Object = {"name": port.get("name", ""), "protocol": port.get("protocol", "TCP"), "port": number}
        if port.get("appProtocol"):
            found["appProtocol"] = port["appProtocol"]
        ports.append(found)
    return ports


def find_port(pod: Object, port: Object) -> int | None:
    """The number of a service port's target in this pod."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target or port["port"]
    for container in [*meta.items(pod, "spec", "containers"), *podlib.sidecars(pod)]:
        for offered in meta.items(container, "ports"):
            if offered.get("name") == target and offered.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return offered["containerPort"]
    return None


def hostname(pod: Object, service: Object) -> str | None:
    """The pod's own name in DNS under a service of its subdomain."""
    spec = meta.spec(pod)
    if spec.get("hostname") and spec.get("subdomain") == meta.name(service):
        return spec["hostname"]
    return None


def target(pod: Object) -> Object:
    return {"kind": "Pod", "namespace": meta.namespace(pod), "name": meta.name(pod), "uid": meta.uid(pod)}
