"""Workloads for tests that run them: small, stopped at once, with the label `app: NAME`."""

from __future__ import annotations

from typing import Any

import yaml

Manifest = dict[str, Any]


def workload(kind: str, name: str, *containers: Manifest, pod: Manifest | None = None, **spec: Any) -> Manifest:
    """A Deployment, StatefulSet or DaemonSet; `pod` is more of its pods' spec, `spec` more of its own."""
    labels = {"app": name}
    pod_spec = {"terminationGracePeriodSeconds": 0, "containers": list(containers), **(pod or {})}
    template = {"metadata": {"labels": dict(labels)}, "spec": pod_spec}
    if kind == "StatefulSet":
        spec = {"serviceName": name, **spec}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def container(*command: str, **fields: Any) -> Manifest:
    return {"name": "c", "image": "python:3.12-slim", "command": list(command), **fields}


def sleeper() -> Manifest:
    return container("sleep", "1000000")


def web_server(port: int = 8000, **fields: Any) -> Manifest:
    """Ready once it answers."""
    probe = {"httpGet": {"path": "/", "port": port}, "periodSeconds": 1}
    return container("python", "-m", "http.server", str(port), readinessProbe=probe, **fields)


def service(name: str, port: int, **spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port}], **spec},
    }


def data_claim() -> Manifest:
    """Of a StatefulSet; to be mounted as `data`."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": "data"}, "spec": spec}


def as_yaml(*manifests: Manifest) -> str:
    """For a file, or for `kubectl apply -f -`."""
    return yaml.safe_dump_all(manifests, sort_keys=False)
