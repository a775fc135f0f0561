"""What people do with Helm 4: a chart with hooks, tests and a custom resource, through its whole life."""

import tempfile
from pathlib import Path

import helm_python as helm
from kubernetes import client, config

CHART = """
apiVersion: v2
name: tale
version: 0.1.0
"""

DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {plural}.tales.podling.test
spec:
  group: tales.podling.test
  scope: Namespaced
  names: {{plural: {plural}, singular: {singular}, kind: {kind}}}
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
              properties:
                length: {{type: integer}}
"""

CUSTOM = """
apiVersion: tales.podling.test/v1
kind: Chapter
metadata:
  name: {{ .Release.Name }}
spec:
  length: {{ .Values.replicas }}
"""

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels: {app: {{ .Release.Name }}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: main
          image: python:3.13-slim
          command: [python, -m, http.server, "8000"]
          readinessProbe:
            tcpSocket: {port: 8000}
            periodSeconds: 1
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .Release.Name }}
spec:
  selector: {app: {{ .Release.Name }}}
  ports: [{port: 80, targetPort: 8000}]
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
data:
  revision: {{ .Release.Revision | quote }}
"""

HOOK = """
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-before-{{ .Release.Revision }}
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-delete-policy: before-hook-creation
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: main
          image: python:3.13-slim
          command: [{{ .Values.hook | quote }}]
"""

TEST = """
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-test
  annotations:
    helm.sh/hook: test
spec:
  restartPolicy: Never
  containers:
    - name: main
      image: python:3.13-slim
      command:
        - python
        - -c
        - |
          import urllib.request
          print(urllib.request.urlopen("http://{{ .Release.Name }}").status)
"""

config.load_kube_config()
core, apps, batch = client.CoreV1Api(), client.AppsV1Api(), client.BatchV1Api()


def _chart(**more):
    directory = Path(tempfile.mkdtemp())
    (directory / "templates").mkdir()
    files = {"Chart.yaml": CHART, "values.yaml": "replicas: 1\nhook: 'true'\n", "templates/web.yaml": WEB}
    for path, text in {**files, **more}.items():
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_text(text)
    return directory


def _revision(namespace):
    return core.read_namespaced_config_map("web", namespace).data["revision"]


def a_chart_is_installed_upgraded_tested_rolled_back_and_uninstalled(namespace):
    chart = _chart(**{"templates/hook.yaml": HOOK, "templates/test.yaml": TEST})
    with helm.Config(namespace=namespace) as cfg:
        installed = cfg.install(chart, "web", wait="watcher", timeout=60)
        assert (installed["revision"], installed["status"]) == (1, "deployed"), installed
        assert apps.read_namespaced_deployment("web", namespace).status.ready_replicas == 1
        assert batch.read_namespaced_job("web-before-1", namespace).status.succeeded == 1
        told = cfg.test("web", timeout=60, logs=True)
        assert "200" in str(told), told
        upgraded = cfg.upgrade(chart, "web", {"replicas": 2}, wait="watcher", timeout=60)
        assert upgraded["revision"] == 2
        assert apps.read_namespaced_deployment("web", namespace).status.ready_replicas == 2
        assert _revision(namespace) == "2"
        cfg.rollback("web", version=1, wait="watcher", timeout=60)
        assert apps.read_namespaced_deployment("web", namespace).spec.replicas == 1
        assert _revision(namespace) == "1"
        assert [(r["revision"], r["status"]) for r in cfg.history("web")] == [
            (1, "superseded"),
            (2, "superseded"),
            (3, "deployed"),
        ]
        cfg.uninstall("web", wait="watcher", timeout=60)
        assert not cfg.list()
    assert not apps.list_namespaced_deployment(namespace).items
    assert not core.list_namespaced_secret(namespace, label_selector="owner=helm").items


def a_failing_hook_fails_the_release_and_leaves_the_rest_alone(namespace):
    chart = _chart(**{"templates/hook.yaml": HOOK})
    with helm.Config(namespace=namespace) as cfg:
        try:
            cfg.install(chart, "web", {"hook": "false"}, timeout=60)
            raise AssertionError("a failed hook did not matter")
        except helm.HelmError as error:
            assert "failed pre-install" in str(error), error
        assert cfg.status("web")["status"] == "failed"
        assert not apps.list_namespaced_deployment(namespace).items


def an_upgrade_that_never_gets_ready_is_rolled_back(namespace):
    chart = _chart()
    with helm.Config(namespace=namespace) as cfg:
        cfg.install(chart, "web", wait="watcher", timeout=60)
        broken = _chart(**{"templates/web.yaml": WEB.replace("port: 8000}", "port: 8001}")})
        try:
            cfg.upgrade(broken, "web", wait="watcher", timeout=4, rollback_on_failure=True)
            raise AssertionError("an upgrade that is never ready went well")
        except helm.HelmError:
            pass
        assert _revision(namespace) == "1"
        assert apps.read_namespaced_deployment("web", namespace).status.ready_replicas == 1


def a_dry_run_writes_nothing(namespace):
    with helm.Config(namespace=namespace) as cfg:
        planned = cfg.install(_chart(), "web", dry_run="server")
        assert "kind: Deployment" in planned["manifest"]
        assert not cfg.list(all_states=True)
    assert not apps.list_namespaced_deployment(namespace).items


def definitions_are_installed_before_the_custom_resources(namespace):
    names = {"plural": "chapters", "singular": "chapter", "kind": "Chapter"}
    chart = _chart(**{"crds/chapter.yaml": DEFINITION.format(**names), "templates/custom.yaml": CUSTOM})
    chapters = client.CustomObjectsApi()

    def length():
        read = chapters.get_namespaced_custom_object("tales.podling.test", "v1", namespace, "chapters", "web")
        return read["spec"]["length"]

    with helm.Config(namespace=namespace) as cfg:
        cfg.install(chart, "web", wait="watcher", timeout=60)
        assert length() == 1
        cfg.upgrade(chart, "web", {"replicas": 2}, wait="watcher", timeout=60)
        assert length() == 2
        cfg.uninstall("web", wait="watcher", timeout=60)
    left = chapters.list_namespaced_custom_object("tales.podling.test", "v1", namespace, "chapters")
    assert left["items"] == []
    assert client.ApiextensionsV1Api().read_custom_resource_definition("chapters.tales.podling.test"), "it stays"
