"""How long pods take: one, and a hundred."""

from __future__ import annotations

import json
import ssl
import time
from contextlib import suppress
from typing import Any

from bench.machine import NAME, Settings, cluster, median, milliseconds, table
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
MANY = 100


def run(settings: Settings) -> None:
    with cluster() as (person, facts):
        context = person.home / "instant"
        context.mkdir()
        (context / "Dockerfile").write_text(DOCKERFILE)
        person.podling("build", "-q", "-t", "instant", context)
        api = client(person, facts)
        _wait_for_service_account(api)
        singles = [_single(api, number) for number in range(10 * settings.rounds)]
        ready, gone = zip(*singles, strict=True)
        many_ready, many_gone = _many(api)
    table(
        ("pods", "podling", "target", "real Kubernetes"),
        (
            ("create -> Ready, p50", milliseconds(median(ready)), "100 ms", "530 ms"),
            ("delete -> gone, p50 (it ends at SIGTERM)", milliseconds(median(gone)), "", "1470 ms"),
            (f"{MANY} replicas -> all Ready", f"{many_ready:.2f} s", "3 s", "20.9 s"),
            (f"{MANY} replicas -> all gone", f"{many_gone:.2f} s", "", "17.0 s"),
        ),
    )


def client(person: Person, facts: Any) -> Api:
    layout = Layout.of(NAME, person.home / "p")
    return Api(layout, int(facts["server"].rpartition(":")[2]))


def _wait_for_service_account(api: Api) -> None:
    for event in api.watch("/api/v1/namespaces/default/serviceaccounts", timeout=10):
        if event["object"]["metadata"]["name"] == "default":
            return


def _single(api: Api, number: int) -> tuple[float, float]:
    name = f"single-{number}"
    began = time.monotonic()
    _create(api, PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": SPEC})
    _until(api, PODS, lambda kind, pod: kind != "DELETED" and _is_ready(pod), name)
    ready = time.monotonic() - began
    began = time.monotonic()
    watch = api.watch(PODS, timeout=30, fieldSelector=f"metadata.name={name}")
    next(watch)
    api.request("DELETE", f"{PODS}/{name}")
    for event in watch:
        if event["type"] == "DELETED":
            break
    return ready, time.monotonic() - began


def _many(api: Api) -> tuple[float, float]:
    template = {"metadata": {"labels": {"app": "many"}}, "spec": SPEC}
    spec = {"replicas": MANY, "selector": {"matchLabels": {"app": "many"}}, "template": template}
    began = time.monotonic()
    _create(
        api, DEPLOYMENTS, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"}, "spec": spec}
    )
    _until(api, DEPLOYMENTS, lambda _, d: d.get("status", {}).get("readyReplicas") == MANY, "many")
    ready = time.monotonic() - began
    began = time.monotonic()
    api.request("DELETE", f"{DEPLOYMENTS}/many")
    while api.get(PODS, labelSelector="app=many", limit="1")["items"]:
        time.sleep(0.01)
    return ready, time.monotonic() - began


def _create(api: Api, path: str, body: Any) -> None:
    api.request("POST", path, json.dumps(body).encode(), content="application/json")


def _until(api: Api, path: str, done: Any, name: str) -> None:
    with suppress(ssl.SSLError):
        for event in api.watch(path, timeout=60, fieldSelector=f"metadata.name={name}"):
            if done(event["type"], event["object"]):
                return
    raise TimeoutError(f"{name} did not become so")


def _is_ready(pod: Any) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
