"""Controllers with real pods: an autoscaler that follows the load, and the reasons for what was done."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from support.kubectl import Kubectl
from support.people import Person
from support.system import exchange, wait_until

NAME = "workloads"
SERVER = """\
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        end = time.thread_time() + (0 if self.path == '/ready' else 0.005)
        while time.thread_time() < end: pass
        self.send_response(200); self.send_header('Content-Length', '0'); self.end_headers()
    def log_message(self, *args): pass
ThreadingHTTPServer(('', 8000), Handler).serve_forever()
"""
SERVICE = f"""\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: burner}}
spec:
  selector: {{matchLabels: {{app: burner}}}}
  template:
    metadata: {{labels: {{app: burner}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: python:3.12-slim
        command: [python, -c, {SERVER!r}]
        ports: [{{containerPort: 8000}}]
        resources: {{requests: {{cpu: 20m}}}}
        readinessProbe: {{httpGet: {{path: /ready, port: 8000}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: burner}}
spec: {{type: LoadBalancer, selector: {{app: burner}}, ports: [{{port: 18000, targetPort: 8000}}]}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: burner}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: burner}}
  minReplicas: 1
  maxReplicas: 3
  metrics: [{{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 50}}}}}}]
  behavior: {{scaleDown: {{stabilizationWindowSeconds: 5}}}}
---
apiVersion: autoscaling.k8s.io/v1
kind: VerticalPodAutoscaler
metadata: {{name: burner}}
spec:
  targetRef: {{apiVersion: apps/v1, kind: Deployment, name: burner}}
  updatePolicy: {{updateMode: "Off"}}
"""


@pytest.fixture(scope="module")
def kubectl(persons: dict[str, Person]) -> Generator[Kubectl]:
    """A cluster of whoever runs the tests: what controllers do does not depend on the tier."""
    person = persons["root" if os.getuid() == 0 else "rootless"]
    try:
        person.podling("up", "--empty", "--name", NAME)
        yield Kubectl(person, f"podling-{NAME}")
    finally:
        person.podling("down", "--name", NAME, check=False)


def why(kubectl: Kubectl, subject: str) -> str:
    return kubectl.person.podling("why", subject, "--name", NAME).stdout


@contextmanager
def load(port: int, rate: float = 15) -> Generator[None]:
    """So many requests a second; those that fail are another test's subject."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(1 / rate):
            exchange("127.0.0.1", port, "/")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_an_autoscaler_follows_the_load_up_and_down(kubectl: Kubectl) -> None:
    kubectl.apply(SERVICE)
    kubectl("rollout", "status", "deployment/burner", "--timeout=30s")
    urls = kubectl.person.podling_json("status", "--name", NAME)["urls"]
    port = int(urls[0]["url"].rpartition(":")[2])
    began = time.monotonic()
    with load(port):
        kubectl.watch_until("hpa", lambda o: o["status"].get("desiredReplicas") == 3, "burner", timeout=90)
        kubectl("rollout", "status", "deployment/burner", "--timeout=30s")
        print(f"up after {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    kubectl.watch_until("deployment", lambda o: o["status"].get("replicas") == 1, "burner", timeout=90)
    print(f"down after {time.monotonic() - began:.1f} s")
    told = why(kubectl, "hpa/burner")
    assert "cpu resource utilization (percentage of request) above target" in told
    assert "All metrics below target" in told


@pytest.mark.slow  # it looks once a minute
def test_a_vertical_autoscaler_recommends_what_the_pods_used(kubectl: Kubectl) -> None:
    """Of the same service, after the load: it looks once a minute."""

    def provided(vpa: Any) -> bool:
        return bool(vpa.get("status", {}).get("recommendation"))

    vpa = kubectl.watch_until("vpa", provided, "burner", timeout=70)
    (recommended,) = vpa["status"]["recommendation"]["containerRecommendations"]
    assert recommended["containerName"] == "c"
    assert recommended["target"]["memory"] == "262144k"
    assert "burner" in kubectl("get", "vpa")


def test_why_tells_the_scheduler_s_reasons_for_a_pod_that_waits(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "picky", "--image=python:3.12-slim")
    kubectl(
        "patch",
        "deployment",
        "picky",
        "-p",
        '{"spec": {"template": {"spec": {"nodeName": null, "nodeSelector": {"disk": "ssd"}}}}}',
    )
    wait_until(lambda: "didn't match Pod's node affinity/selector" in why(kubectl, "deployment/picky"))
