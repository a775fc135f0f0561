"""The minds of a cluster and its kubelet with many of everything: how long they take, and what they take at rest.

A line tells how long it took until the cluster was as it should be, and the CPU time that podling's own processes used
for it; what runs in the pods is not in it.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from bench.machine import Settings, cluster, cpu_seconds, process, table
from bench.objects import (
    CONTAINER,
    DEPLOYMENTS,
    PODS,
    SPEC,
    build_instant,
    client,
    create,
    deployment,
    is_ready,
    until,
    until_gone,
    until_sum,
    wait_for_service_account,
)
from podling.cli.api import Api, RequestFailed

MANY = 100
MASS = 500
ROLLED = 50
SPACES = 1000
NODES = MASS // 100
"""A node takes 110 pods."""
CLIENTS = 4
REST = 20.0
"""Seconds for which a cluster at rest is looked at."""
SETTLED = 5.0
"""Seconds until what follows a start has ended."""
NAMESPACES = "/api/v1/namespaces"
SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
MERGE = "application/merge-patch+json"


@dataclass
class Bench:
    """A cluster, and the rows that were measured on it."""

    api: Api
    connect: Callable[[], Api]
    """A further connection, for a thread of its own."""
    facts: Any
    """Of `podling status`: the processes."""
    rows: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])

    @contextmanager
    def measured(self, title: str, target: str = "", real: str = "") -> Generator[None]:
        cpu, began = self.cpu(), time.monotonic()
        yield
        seconds = time.monotonic() - began
        self.rows.append((title, f"{seconds:.2f} s", f"{self.cpu() - cpu:.1f} s", target, real))

    def cpu(self) -> float:
        return sum(cpu_seconds(entry["pid"]) for entry in self.facts["processes"])

    def deploy(self, name: str, replicas: int) -> None:
        create(self.api, DEPLOYMENTS, "Deployment", "apps/v1", name, spec=deployment(replicas, name))

    def until_ready(self, name: str, replicas: int) -> None:
        until(self.api, DEPLOYMENTS, name, lambda d: d.get("status", {}).get("readyReplicas") == replicas)

    def delete_deployment(self, name: str) -> None:
        self.api.request("DELETE", f"{DEPLOYMENTS}/{name}")
        until_gone(self.api, PODS, labelSelector=f"app={name}")

    def in_parallel(self, count: int, work: Callable[[Api, int], object]) -> None:
        """From several connections: what one client waits for is not the server's work."""

        def some(first: int) -> None:
            api = self.connect()
            for number in range(first, count, CLIENTS):
                work(api, number)

        threads = [threading.Thread(target=some, args=(first,)) for first in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def run(_settings: Settings) -> None:
    with cluster("--empty", "--nodes", str(NODES)) as (person, facts):
        build_instant(person)
        bench = Bench(client(person, facts), lambda: client(person, facts), facts)
        wait_for_service_account(bench.api)
        for part in (_deployment, _rollout, _jobs, _endpoints, _pods, _namespaces, _restart):
            part(bench)
    table(("controllers", "podling", "its CPU", "target", "real Kubernetes"), bench.rows)


def _deployment(bench: Bench) -> None:
    with bench.measured(f"Deployment of {MANY}: all Ready", "3 s", "20.9 s"):
        bench.deploy("many", MANY)
        bench.until_ready("many", MANY)
    _rest(bench)
    with bench.measured(f"Deployment of {MANY}: all gone", real="17.0 s"):
        bench.delete_deployment("many")


def _rest(bench: Bench) -> None:
    time.sleep(SETTLED)
    before = bench.cpu()
    time.sleep(REST)
    share = (bench.cpu() - before) / REST
    bench.rows.append((f"at rest with {MANY} pods, {REST:.0f} s", "", f"{share:.1%} of a core", "2 %", ""))


def _rollout(bench: Bench) -> None:
    bench.deploy("rolled", ROLLED)
    bench.until_ready("rolled", ROLLED)
    patch = {"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}}
    with bench.measured(f"rolling update of {ROLLED} replicas: complete"):
        bench.api.request("PATCH", f"{DEPLOYMENTS}/rolled", json.dumps(patch).encode(), content=MERGE)
        until(bench.api, DEPLOYMENTS, "rolled", _is_complete)
    bench.delete_deployment("rolled")


def _is_complete(deployment: Any) -> bool:
    found = deployment.get("status", {})
    counts = [found.get(name) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    return counts == [ROLLED] * 3 and found.get("observedGeneration") == deployment["metadata"]["generation"]


def _jobs(bench: Bench) -> None:
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [{**CONTAINER, "command": ["true"]}]}}}
    with bench.measured(f"{MANY} Jobs of one pod: all complete"):
        bench.in_parallel(MANY, lambda api, n: create(api, JOBS, "Job", "batch/v1", f"job-{n}", spec=spec))
        until_sum(bench.api, JOBS, MANY, lambda job: "completionTime" in job.get("status", {}))
    bench.api.request("DELETE", JOBS, query={"propagationPolicy": "Background"})
    until_gone(bench.api, PODS)


def _endpoints(bench: Bench) -> None:
    of_service = "kubernetes.io/service-name=mass"
    spec = {"selector": {"app": "mass"}, "ports": [{"port": 80}]}
    with bench.measured(f"Service over a Deployment of {MASS}: all endpoints ready"):
        create(bench.api, SERVICES, "Service", "v1", "mass", spec=spec)
        bench.deploy("mass", MASS)
        until_sum(bench.api, SLICES, MASS, _ready_endpoints, labelSelector=of_service)
    with bench.measured(f"Service over a Deployment of {MASS}: all gone"):
        bench.delete_deployment("mass")
        until_sum(bench.api, SLICES, 0, lambda s: len(s.get("endpoints") or ()), labelSelector=of_service)
    bench.api.request("DELETE", f"{SERVICES}/mass")


def _ready_endpoints(slice: Any) -> int:
    return sum(endpoint["conditions"]["ready"] for endpoint in slice.get("endpoints") or ())


def _pods(bench: Bench) -> None:
    with bench.measured(f"{MASS} pods: all Ready"):
        bench.in_parallel(MASS, lambda api, n: create(api, PODS, "Pod", "v1", f"mass-{n}", spec=SPEC))
        until_sum(bench.api, PODS, MASS, is_ready)
    with bench.measured(f"{MASS} pods: all gone"):
        bench.api.request("DELETE", PODS)
        until_gone(bench.api, PODS)


def _namespaces(bench: Bench) -> None:
    def fill(api: Api, number: int) -> None:
        create(api, NAMESPACES, "Namespace", "v1", f"space-{number}")
        create(api, f"{NAMESPACES}/space-{number}/configmaps", "ConfigMap", "v1", "only", data={"key": "value"})

    with bench.measured(f"{SPACES} namespaces with a ConfigMap: made"):
        bench.in_parallel(SPACES, fill)
    with bench.measured(f"{SPACES} namespaces with a ConfigMap: gone"):
        bench.in_parallel(SPACES, lambda api, n: api.request("DELETE", f"{NAMESPACES}/space-{n}"))
        until_sum(bench.api, NAMESPACES, 0, lambda space: space["metadata"]["name"].startswith("space-"))


def _restart(bench: Bench) -> None:
    bench.deploy("kept", MANY)
    bench.until_ready("kept", MANY)
    began = time.monotonic()
    os.kill(process(bench.facts, "daemon"), signal.SIGKILL)
    bench.api = _answering(bench)
    answered = time.monotonic() - began
    create(bench.api, PODS, "Pod", "v1", "next", spec=SPEC)
    until(bench.api, PODS, "next", is_ready)
    ready = time.monotonic() - began
    bench.rows.append((f"daemon killed, {MANY} pods: API answers again", f"{answered:.2f} s", "", "", ""))
    bench.rows.append((f"daemon killed, {MANY} pods: a new pod is Ready", f"{ready:.2f} s", "", "", ""))


def _answering(bench: Bench) -> Api:
    while True:
        with suppress(OSError, RequestFailed):
            api = bench.connect()
            api.get("/api/v1/nodes")
            return api
        time.sleep(0.01)
