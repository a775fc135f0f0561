"""Controllers with real pods: autoscalers that follow the load, and the reasons for what was done."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from podling.auth import pki
from support.kubectl import Kubectl
from support.people import Person
from support.system import exchange, wait_until

NAME = "workloads"
SERVER = """\
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    served = 0
    def do_GET(self):
        body = b''
        if self.path == '/metrics':
            body = b'# TYPE http_requests counter\\nhttp_requests_total{path="/"} %d\\n' % Handler.served
        elif self.path != '/ready':
            Handler.served += 1
            end = time.thread_time() + 0.005
            while time.thread_time() < end: pass
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
ThreadingHTTPServer(('', 8000), Handler).serve_forever()
"""


def service(name: str, port: int) -> str:
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations: {{prometheus.io/scrape: "true", prometheus.io/port: "8000"}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: python:3.12-slim
        command: [python, -c, {json.dumps(SERVER)}]
        ports: [{{containerPort: 8000}}]
        resources: {{requests: {{cpu: 20m}}}}
        readinessProbe: {{httpGet: {{path: /ready, port: 8000}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{type: LoadBalancer, selector: {{app: {name}}}, ports: [{{port: {port}, targetPort: 8000}}]}}
---
"""


def autoscaler(name: str, most: int, metric: str) -> str:
    return f"""\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: {name}}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}
  minReplicas: 1
  maxReplicas: {most}
  metrics: [{metric}]
  behavior: {{scaleDown: {{stabilizationWindowSeconds: 5}}}}
---
"""


CPU = "{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}"
REQUESTS = (
    "{type: Pods, pods: {metric: {name: http_requests_per_second}, target: {type: AverageValue, averageValue: 5}}}"
)
JOBS = "{type: External, external: {metric: {name: jobs}, target: {type: AverageValue, averageValue: 10}}}"
VERTICAL = """\
apiVersion: autoscaling.k8s.io/v1
kind: VerticalPodAutoscaler
metadata: {name: burner}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: burner}
  updatePolicy: {updateMode: "Off"}
"""


ADAPTER = """\
import http.server, json, ssl
class Adapter(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.partition('?')[0]
        if path == '/apis/external.metrics.k8s.io/v1beta1':
            answer = {'kind': 'APIResourceList', 'groupVersion': path[6:], 'resources': []}
        else:
            item = {'metricName': path.rpartition('/')[2], 'timestamp': '2026-01-01T00:00:00Z', 'value': '25'}
            answer = {'kind': 'ExternalMetricValueList', 'apiVersion': path[6:37], 'items': [item]}
        body = json.dumps(answer).encode()
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(('', 8443), Adapter)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain('/tls/tls.crt', '/tls/tls.key')
tls.load_verify_locations('/tls/front-proxy.crt')
tls.verify_mode = ssl.CERT_REQUIRED
server.socket = tls.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
API_SERVICE = "v1beta1.external.metrics.k8s.io"


def adapter(tls: dict[str, str], ca: bytes) -> list[Any]:
    """An adapter as KEDA is one: a server of external metrics in a pod, which trusts the front proxy alone."""
    container = {
        "name": "adapter",
        "image": "python:3.12-slim",
        "command": ["python", "-c", ADAPTER],
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
    }
    pod = {"containers": [container], "volumes": [{"name": "tls", "secret": {"secretName": "adapter"}}]}
    metadata = {"name": "adapter", "labels": {"app": "adapter"}}
    spec = {
        "group": "external.metrics.k8s.io",
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "service": {"name": "adapter", "namespace": "default"},
        "caBundle": base64.b64encode(ca).decode(),
    }
    service = {"selector": {"app": "adapter"}, "ports": [{"port": 443, "targetPort": 8443}]}
    parts: list[tuple[str, str, Any]] = [
        ("v1", "Secret", {"stringData": tls}),
        ("v1", "Pod", {"spec": pod}),
        ("v1", "Service", {"spec": service}),
        ("apiregistration.k8s.io/v1", "APIService", {"metadata": {"name": API_SERVICE}, "spec": spec}),
    ]
    return [{"apiVersion": version, "kind": kind, "metadata": metadata, **rest} for version, kind, rest in parts]


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


class Load:
    """So many requests a second; those that fail are another test's subject."""

    def __init__(self, port: int, rate: float = 15) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(port, rate))
        self._thread.start()

    def _run(self, port: int, rate: float) -> None:
        while not self._stop.wait(1 / rate):
            exchange("127.0.0.1", port, "/")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def loads(kubectl: Kubectl) -> Generator[list[Load]]:
    """Two services under load at the same time, because autoscalers take theirs: one scales by CPU, one by requests."""
    kubectl.apply(service("burner", 18000) + service("shop", 18001))
    for name in ("burner", "shop"):
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=30s")
    kubectl.apply(autoscaler("burner", 5, CPU) + autoscaler("shop", 3, REQUESTS) + VERTICAL)
    urls = kubectl.person.podling_json("status", "--name", NAME)["urls"]
    running = [Load(int(entry["url"].rpartition(":")[2])) for entry in urls]
    yield running
    for one in running:
        one.stop()


def desires(replicas: int) -> Callable[[Any], bool]:
    return lambda hpa: hpa["status"].get("desiredReplicas") == replicas


def test_an_autoscaler_follows_the_cpu_from_one_pod_to_five(kubectl: Kubectl, loads: list[Load]) -> None:
    began = time.monotonic()
    kubectl.watch_until("hpa", desires(5), "burner", timeout=90)
    kubectl("rollout", "status", "deployment/burner", "--timeout=30s")
    print(f"up after {time.monotonic() - began:.1f} s")
    assert "cpu resource utilization (percentage of request) above target" in why(kubectl, "hpa/burner")


def test_an_autoscaler_follows_requests_per_second_with_annotations_alone(kubectl: Kubectl, loads: list[Load]) -> None:
    began = time.monotonic()
    kubectl.watch_until("hpa", desires(3), "shop", timeout=90)
    kubectl("rollout", "status", "deployment/shop", "--timeout=30s")
    print(f"up after {time.monotonic() - began:.1f} s")
    assert "pods metric http_requests_per_second above target" in why(kubectl, "hpa/shop")
    metrics = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default"
    told = json.loads(kubectl("get", "--raw", f"{metrics}/services/shop/http_requests_per_second"))
    (value,) = told["items"]
    assert value["describedObject"] == {"kind": "Service", "namespace": "default", "name": "shop", "apiVersion": "v1"}
    assert value["value"] != "0"
    assert "pods/http_requests_per_second" in kubectl("get", "--raw", "/apis/custom.metrics.k8s.io/v1beta2")


def test_both_go_back_to_one_pod_after_the_load(kubectl: Kubectl, loads: list[Load]) -> None:
    for one in loads:
        one.stop()
    began = time.monotonic()
    for name in ("burner", "shop"):
        kubectl.watch_until("deployment", lambda o: o["status"].get("replicas") == 1, name, timeout=90)
    print(f"down after {time.monotonic() - began:.1f} s")
    assert "All metrics below target" in why(kubectl, "hpa/burner")


def test_an_adapter_that_registers_itself_is_the_one_that_is_asked(kubectl: Kubectl, tmp_path: Path) -> None:
    keys = pki.ensure(tmp_path, server_names=["adapter.default.svc"])
    trusted = kubectl.json("get", "configmap", "-n", "kube-system", "extension-apiserver-authentication")["data"]
    tls = {
        "tls.crt": keys.server_cert.read_text(),
        "tls.key": keys.server_key.read_text(),
        "front-proxy.crt": trusted["requestheader-client-ca-file"],
    }
    objects = adapter(tls, keys.ca_cert.read_bytes())
    kubectl.apply(json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}))
    kubectl("wait", "--for=condition=Available", f"apiservice/{API_SERVICE}", "--timeout=60s")
    kubectl("create", "deployment", "worker", "--image=python:3.12-slim", "--", "sleep", "1000")
    kubectl.apply(autoscaler("worker", 5, JOBS))
    kubectl.watch_until("hpa", desires(3), "worker", timeout=60)
    kubectl("delete", "apiservice", API_SERVICE)
    kubectl("delete", "deployment,hpa", "worker")
    own = kubectl("get", "--raw", "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/jobs")
    assert json.loads(own)["items"] == []


@pytest.mark.slow  # it looks once a minute
def test_a_vertical_autoscaler_recommends_what_the_pods_used(kubectl: Kubectl, loads: list[Load]) -> None:
    """Of the same service, after the load: it looks once a minute."""

    def provided(vpa: Any) -> bool:
        return bool(vpa.get("status", {}).get("recommendation"))

    vpa = kubectl.watch_until("vpa", provided, "burner", timeout=70)
    (recommended,) = vpa["status"]["recommendation"]["containerRecommendations"]
    assert recommended["containerName"] == "c"
    assert recommended["target"]["memory"] == "262144k"
    described = kubectl("describe", "vpa", "burner")
    assert all(part in described for part in ("Target:", "Lower Bound:", "Upper Bound:", "Uncapped Target:"))


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
