"""A kind of the user's own, by kubectl: made, explained, applied, printed, taken away."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Generator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml

from podling.auth import pki
from podling.store.types import Object
from support.people import Person

CLUSTER = "crd"
Kubectl = Callable[..., CompletedProcess[str]]

DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [cronSpec]
            properties:
              cronSpec: {type: string, description: When it runs., pattern: '^.+ .+ .+ .+ .+$'}
              replicas: {type: integer, minimum: 1, default: 1}
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
"""


def crontab(spec: str) -> str:
    return f"apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {{name: mine}}\nspec: {{cronSpec: '{spec}'}}\n"


@pytest.fixture(scope="module")
def kubectl(person: Person) -> Generator[Kubectl]:
    person.podling("up", "--empty", "--name", CLUSTER)

    def run(*args: str | Path, **options: object) -> CompletedProcess[str]:
        return person.run("kubectl", *args, **options)  # type: ignore[arg-type]

    try:
        run("apply", "-f", "-", stdin=DEFINITION)
        run("wait", "--for=condition=Established", "crd/crontabs.stable.example.com", "--timeout=10s")
        yield run
    finally:
        person.podling("down", "--name", CLUSTER)


def test_it_is_explained(kubectl: Kubectl) -> None:
    shown = kubectl("explain", "crontabs.spec").stdout
    assert "cronSpec" in shown
    assert "When it runs." in shown


def test_an_object_that_does_not_fit_is_refused(kubectl: Kubectl) -> None:
    refused = kubectl("apply", "-f", "-", stdin=crontab("often"), check=False)
    assert refused.returncode != 0
    assert "spec.cronSpec in body should match" in refused.stderr


def test_a_good_object_is_stored_with_defaults_and_printed_in_columns(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=crontab("* * * * 5"))
    head, row = kubectl("get", "ct").stdout.splitlines()
    assert head.split() == ["NAME", "SPEC", "REPLICAS"]
    assert row.split() == ["mine", "*", "*", "*", "*", "5", "1"]


CONVERTER = """
import http.server, json, ssl

class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review.pop("request")
        done = [self.converted(obj, request["desiredAPIVersion"]) for obj in request["objects"]]
        review["response"] = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": done}
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def converted(self, obj, version):
        spec = obj["spec"]
        wish = {"cronSpec": " ".join(spec["fields"])} if "fields" in spec else {"fields": spec["cronSpec"].split()}
        return {**obj, "apiVersion": version, "spec": wish}

server = http.server.HTTPServer(("", 8443), Hook)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = tls.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def converter(directory: Path) -> list[Object]:
    """A webhook in a pod: its code, its certificate, the pod and its service."""
    keys = pki.ensure(directory, server_names=["converter.default.svc"])
    tls = {"tls.crt": keys.server_cert.read_text(), "tls.key": keys.server_key.read_text()}
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("code", "tls")]
    container = {
        "name": "hook",
        "image": "python:3",
        "command": ["python3", "/code/hook.py"],
        "volumeMounts": mounts,
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
    }
    volumes = [
        {"name": "code", "configMap": {"name": "converter"}},
        {"name": "tls", "secret": {"secretName": "converter"}},
    ]
    labels = {"app": "converter"}
    parts: list[tuple[str, Object]] = [
        ("ConfigMap", {"data": {"hook.py": CONVERTER}}),
        ("Secret", {"stringData": tls}),
        ("Pod", {"spec": {"containers": [container], "volumes": volumes}}),
        ("Service", {"spec": {"selector": labels, "ports": [{"port": 443, "targetPort": 8443}]}}),
    ]
    metadata = {"name": "converter", "labels": labels}
    return [{"apiVersion": "v1", "kind": kind, "metadata": metadata, **rest} for kind, rest in parts]


def with_second_version(definition: Object, ca: bytes) -> Object:
    spec = definition["spec"]
    fields = {"type": "array", "items": {"type": "string"}}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"fields": fields}}}}
    newer = {"name": "v2", "served": True, "storage": False, "schema": {"openAPIV3Schema": schema}}
    service = {"name": "converter", "namespace": "default"}
    config = {"service": service, "caBundle": base64.b64encode(ca).decode()}
    webhook = {"clientConfig": config, "conversionReviewVersions": ["v1"]}
    conversion = {"strategy": "Webhook", "webhook": webhook}
    return {**definition, "spec": {**spec, "versions": [*spec["versions"], newer], "conversion": conversion}}


def test_a_webhook_in_a_pod_converts_between_versions(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": converter(tmp_path)}))
    kubectl("wait", "--for=condition=Ready", "pod/converter", "--timeout=60s")
    definition = yaml.safe_load(DEFINITION)
    ca = (tmp_path / "ca.crt").read_bytes()
    kubectl("apply", "-f", "-", stdin=json.dumps(with_second_version(definition, ca)))
    kubectl("wait", "--for=jsonpath={.apiVersion}=stable.example.com/v2", "crontabs.v2.stable.example.com/mine")
    shown = kubectl("get", "crontabs.v2.stable.example.com", "mine", "-o", "jsonpath={.spec.fields}").stdout
    assert json.loads(shown) == ["*", "*", "*", "*", "5"]
    change = json.dumps({"spec": {"fields": ["1", "2", "3", "4", "5"]}})
    kubectl("patch", "crontabs.v2.stable.example.com", "mine", "--type=merge", "-p", change)
    assert "1 2 3 4 5" in kubectl("get", "crontabs.v1.stable.example.com").stdout


def test_the_definition_goes_and_takes_its_objects_with_it(kubectl: Kubectl) -> None:
    kubectl("delete", "crd", "crontabs.stable.example.com", "--timeout=20s")
    gone = kubectl("get", "ct", check=False)
    assert gone.returncode != 0
    assert "the server" in gone.stderr  # could not find it, or has no such type: as kubectl's cache of discovery has it
