"""What the measurements make in a cluster, and how they see that it is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bench.machine import NAME
from podling.cli.api import Api
from podling.layout import Layout
from support.people import Person

DOCKERFILE = """\
FROM python:3.12-slim
CMD ["sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait"]
"""
PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
CONTAINER = {"name": "c", "image": "instant", "imagePullPolicy": "Never"}
SPEC = {"containers": [CONTAINER], "terminationGracePeriodSeconds": 5}
"""Of a pod that is there at once, does nothing, and ends at SIGTERM."""
PATIENCE = 300.0


def build_instant(person: Person) -> None:
    """The image of `SPEC`."""
    context = person.home / "instant"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    person.podling("build", "-q", "-t", "instant", context)


def client(person: Person, facts: Any) -> Api:
    layout = Layout.of(NAME, person.home / "p")
    return Api(layout, int(facts["server"].rpartition(":")[2]))


def wait_for_service_account(api: Api) -> None:
    until(api, "/api/v1/namespaces/default/serviceaccounts", "default", lambda _: True)


def create(api: Api, path: str, kind: str, version: str, name: str, **fields: Any) -> None:
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **fields}
    api.request("POST", path, json.dumps(body).encode(), content="application/json")


def deployment(replicas: int, name: str) -> Any:
    """Its spec."""
    template = {"metadata": {"labels": {"app": name}}, "spec": SPEC}
    return {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}


def until(api: Api, path: str, name: str, done: Callable[[Any], bool]) -> None:
    """Follows one object until it is as it should be."""
    for event in api.watch(path, timeout=PATIENCE, fieldSelector=f"metadata.name={name}"):
        if event["type"] != "DELETED" and done(event["object"]):
            return
    raise TimeoutError(f"{name} did not become so")


def until_gone(api: Api, path: str, **query: str) -> None:
    until_sum(api, path, 0, lambda _: 1, **query)


def until_sum(api: Api, path: str, wanted: int, value: Callable[[Any], int], **query: str) -> None:
    """Follows a list until the sum of `value` over it is as wanted."""
    listed = api.get(path, **query)
    values = {_key(item): value(item) for item in listed["items"]}
    total = sum(values.values())
    if total == wanted:
        return
    since = listed["metadata"]["resourceVersion"]
    for event in api.watch(path, timeout=PATIENCE, resourceVersion=since, **query):
        key = _key(event["object"])
        new = 0 if event["type"] == "DELETED" else value(event["object"])
        total += new - values.get(key, 0)
        values[key] = new
        if total == wanted:
            return
    raise TimeoutError(f"{path}: {total} instead of {wanted}")


def _key(obj: Any) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def is_ready(pod: Any) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
