"""A cluster in memory for the network's tests: a `Client` with just enough behaviour."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from podling.store.types import Change, ChangeType, Entry, Key

Handler = Callable[[Change], None]


class Watching:
    def __init__(self, handlers: list[Handler], handler: Handler) -> None:
        self._handlers = handlers
        self._handler = handler

    def close(self) -> None:
        self._handlers.remove(self._handler)


class MemoryCluster:
    """Objects by key; every write is told to the subscribers at once."""

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}
        self._handlers: dict[str, list[Handler]] = {}
        self._revision = itertools.count(1)
        self.events: list[str] = []

    def subscribe(self, resource: str, handler: Handler) -> Watching:
        for entry in list(self._entries.values()):
            if entry.key.resource == resource:
                handler(Change(ChangeType.ADDED, entry, None))
        handlers = self._handlers.setdefault(resource, [])
        handlers.append(handler)
        return Watching(handlers, handler)

    def put(self, resource: str, obj: dict[str, Any]) -> None:
        metadata = obj["metadata"]
        key = Key(resource, metadata.get("namespace", ""), metadata["name"])
        before = self._entries.get(key)
        entry = self._entries[key] = Entry(key, next(self._revision), orjson.dumps(obj))
        self._tell(Change(ChangeType.MODIFIED if before else ChangeType.ADDED, entry, before))

    def remove(self, resource: str, namespace: str, name: str) -> None:
        before = self._entries.pop(Key(resource, namespace, name))
        self._tell(Change(ChangeType.DELETED, before, before))

    def _tell(self, change: Change) -> None:
        for handler in list(self._handlers.get(change.entry.key.resource, ())):
            handler(change)

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        entry = self._entries.get(Key(resource, namespace, name))
        return entry.object if entry else None

    def list(self, resource: str, namespace: str | None = None) -> Sequence[dict[str, Any]]:
        return [entry.object for entry in self._entries.values() if entry.key.resource == resource]

    async def patch(
        self, resource: str, namespace: str, name: str, patch: dict[str, Any], **_: object
    ) -> dict[str, Any]:
        merged = _merged(self.get(resource, namespace, name) or {}, patch)
        self.put(resource, merged)
        return merged

    def record(self, regarding: dict[str, Any], type: str, reason: str, message: str, **_: object) -> None:
        self.events.append(f"{type} {reason}: {message}")

    # Shorthands

    def namespace(self, name: str) -> None:
        self.put("namespaces", {"metadata": {"name": name}})

    def service(self, name: str, ip: str, kind: str = "ClusterIP", port: int = 80, **spec: Any) -> None:
        ports = [{"name": "http", "port": port, "protocol": "TCP", "targetPort": 5000}]
        metadata = {"namespace": "default", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
        spec = {"type": kind, "clusterIP": ip, "clusterIPs": [ip], "ports": ports, **spec}
        self.put("services", {"metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}})

    def endpoints(self, service: str, **ips: bool) -> None:
        """`pod=True`: the pod of that name is ready; its address is looked up."""
        labels = {"kubernetes.io/service-name": service}
        found = [
            {
                "addresses": [self.address(pod)],
                "conditions": {"ready": ready, "serving": ready, "terminating": False},
                "hostname": pod,
            }
            for pod, ready in ips.items()
        ]
        obj = {
            "metadata": {"namespace": "default", "name": f"{service}-x", "labels": labels},
            "addressType": "IPv4",
            "endpoints": found,
            "ports": [{"name": "http", "port": 5000, "protocol": "TCP"}],
        }
        self.put("endpointslices.discovery.k8s.io", obj)

    def pod(self, name: str, ip: str, **metadata: Any) -> None:
        metadata = {"namespace": "default", "name": name, "uid": f"uid-{name}", **metadata}
        self.put("pods", {"metadata": metadata, "spec": {}, "status": {"podIP": ip, "phase": "Running"}})

    def address(self, pod: str) -> str:
        found = self.get("pods", "default", pod)
        assert found is not None
        return found["status"]["podIP"]


def _merged(obj: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """JSON merge patch (RFC 7386)."""
    result = dict(obj)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            before = result.get(name)
            result[name] = _merged(before if isinstance(before, dict) else {}, value)
        else:
            result[name] = value
    return result
