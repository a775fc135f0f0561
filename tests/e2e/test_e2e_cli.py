"""The commands as a person types them."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Generator
from pathlib import Path

import pytest

from support.kubectl import Kubectl
from support.people import Person
from support.system import SELECTOR, System, identity
from support.terminal import terminal
from support.traces import Traces

SLOW_BUILD = 'FROM python:3.12-slim\nRUN echo begun && sleep 60\nCMD ["true"]\n'
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: slow}
spec:
  containers:
  - name: c
    image: slow
    imagePullPolicy: Never
    %s
"""
READY_NEVER = 'readinessProbe: {exec: {command: ["false"]}, periodSeconds: 1}'


@pytest.fixture
def other(person: Person) -> Generator[Traces]:
    """The name of a second cluster, which is gone afterwards."""
    traces = Traces(person, "other")
    yield traces
    person.podling("down", "--name", "other")
    assert not [path for path in traces.files() if "other" in path]


def slow_project(person: Person, dockerfile: str, extra: str) -> Path:
    root = person.home / "slow"
    (root / "k8s").mkdir(parents=True, exist_ok=True)
    (root / "Dockerfile").write_text(dockerfile)
    (root / "k8s" / "pod.yaml").write_text(POD % extra)
    return person.own(root)


def test_up_twice_is_harmless(monitor: System) -> None:
    before = sorted(identity(pod) for pod in monitor.pods())
    done = monitor.person.podling("up", monitor.project, "--name", monitor.name)
    assert "(nothing changed)" in done.stderr
    assert "Starting cluster" not in done.stderr
    assert sorted(identity(pod) for pod in monitor.pods()) == before


def test_a_changed_source_is_rolled_out_by_the_next_up(monitor: System) -> None:
    before = {pod["metadata"]["uid"] for pod in monitor.pods()}
    (monitor.project / "app" / "monitor" / "extra.py").write_text('"""Something new."""\n')
    monitor.person.own(monitor.project)
    monitor.person.podling("up", monitor.project, "--name", monitor.name, timeout=120)
    assert not before & {pod["metadata"]["uid"] for pod in monitor.pods()}
    assert len(monitor.pods()) == 2


def test_up_ends_with_the_url_and_the_next_command(monitor: System) -> None:
    done = monitor.person.podling("up", monitor.project, "--name", monitor.name)
    assert done.stdout == ""
    assert monitor.url in done.stderr
    assert f"kubectl get pods --context podling-{monitor.name}" in done.stderr.splitlines()[-1]
    with urllib.request.urlopen(monitor.url, timeout=10) as answer:
        assert answer.headers["X-Pod"].startswith("resilient-monitor-")


def test_status_tells_urls_workloads_pods_and_processes(monitor: System) -> None:
    facts = monitor.status()
    assert (facts["running"], facts["ready"]) == (True, True)
    assert [u["service"] for u in facts["urls"]] == ["default/resilient-monitor"]
    assert facts["workloads"][0]["ready"] == facts["workloads"][0]["wanted"] == 2
    assert all(pod["ready"] and pod["ip"].startswith("10.244.") for pod in facts["pods"])
    assert {p["name"] for p in facts["processes"]} == {"helper", "zygote", "daemon", "proxy"}
    assert all(p["memory"] > 0 for p in facts["processes"])
    text = monitor.person.podling("status", "--name", monitor.name).stdout
    assert "2/2 ready" in text
    assert monitor.url in text


def test_clusters_side_by_side_have_their_own_ports_and_contexts(monitor: System, other: Traces) -> None:
    person = monitor.person
    first = monitor.status()
    second = json.loads(person.podling("up", monitor.project, "--name", "other", "-o", "json").stdout)
    assert {u["url"] for u in first["urls"]}.isdisjoint(u["url"] for u in second["urls"])
    for entry in (*first["urls"], *second["urls"]):
        with urllib.request.urlopen(entry["url"], timeout=10) as answer:
            assert answer.status == 200
    both = person.podling_json("status", "--all")
    assert {c["name"] for c in both} >= {monitor.name, "other"}
    mine, theirs = (
        Kubectl(person, context)("get", "pods", "-l", SELECTOR, "-o", "name")
        for context in (f"podling-{monitor.name}", "podling-other")
    )
    assert mine != theirs
    assert person.run("kubectl", "config", "current-context").stdout == "podling-other\n"
    person.podling("down", "--name", "other")
    assert monitor.request("/")[0] == 200
    assert "podling-other" not in person.run("kubectl", "config", "view").stdout


def test_kubeconfig_prints_what_another_tool_needs(monitor: System) -> None:
    file = monitor.person.home / "exported"
    file.write_text(monitor.person.podling("kubeconfig", "--name", monitor.name).stdout)
    monitor.person.own(file)
    assert "kube-system" in monitor.person.run("kubectl", "--kubeconfig", file, "get", "namespaces").stdout


def test_logs_of_each_process(monitor: System) -> None:
    assert "ready" in monitor.person.podling("logs", "--name", monitor.name).stdout
    assert monitor.person.podling("logs", "proxy", "-n", "1", "--name", monitor.name).returncode == 0
    missing = monitor.person.podling("logs", "--name", "nobody", check=False)
    assert (missing.returncode, "has no log" in missing.stderr) == (1, True)


def test_waiting_can_be_left_out(person: Person, other: Traces) -> None:
    project = slow_project(person, 'FROM python:3.12-slim\nCMD ["sleep", "60"]\n', READY_NEVER)
    person.podling("up", project, "--name", "other", "--wait", "0", timeout=60)
    waited = person.podling("up", project, "--name", "other", "--wait", "2", check=False)
    assert waited.returncode == 1
    assert (
        "pod/slow is not ready:\n  pod slow: container c runs, but its probes say that it is not ready" in waited.stderr
    )


def test_progress_on_a_terminal_is_a_line_that_becomes_a_check_mark(person: Person, other: Traces) -> None:
    with terminal(person, person.bin / "podling", "up", "--empty", "--name", "other") as screen:
        assert screen.end() == 0
    assert "✓ Starting cluster other (" in screen.shown
    assert "Next: kubectl get pods --context podling-other" in screen.shown


def test_ctrl_c_while_building_leaves_no_cluster(person: Person, other: Traces) -> None:
    project = slow_project(person, SLOW_BUILD, "")
    before = set(_steps())
    with terminal(person, person.bin / "podling", "up", project, "--name", "other") as screen:
        screen.wait_for("Building slow")
        screen.wait_for("RUN echo begun")
        screen.interrupt()
        assert screen.end() == 130
    assert "Interrupted" in screen.shown
    assert "Traceback" not in screen.shown
    assert not other.state.exists()
    assert set(_steps()) <= before
    assert other.mounts() == []


def _steps() -> list[str]:
    """Processes of builds."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"sleep\x0060" in words:
                found.append(entry.name)
    return found


def test_ctrl_c_while_starting_leaves_a_cluster_that_down_ends(person: Person, other: Traces) -> None:
    with terminal(person, person.bin / "podling", "up", "--empty", "--name", "other") as screen:
        screen.wait_for("Starting cluster")
        screen.interrupt()
        assert screen.end() in (0, 130), screen.shown
    assert "Traceback" not in screen.shown
    person.podling("up", "--empty", "--name", "other")


def test_ctrl_c_while_waiting_leaves_the_cluster_running(person: Person, other: Traces) -> None:
    project = slow_project(person, 'FROM python:3.12-slim\nCMD ["sleep", "60"]\n', READY_NEVER)
    with terminal(person, person.bin / "podling", "up", project, "--name", "other") as screen:
        screen.wait_for("0 of 1 ready")
        screen.interrupt()
        assert screen.end() == 130
    assert "What runs goes on: podling status shows it, podling down ends it." in screen.shown
    assert person.podling_json("status", "--name", "other")["ready"]


WHOLE = """\
apiVersion: v1
kind: Namespace
metadata: {name: whole}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: cards.podling.test}
spec:
  group: podling.test
  names: {kind: Card, plural: cards}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {n: {type: integer}}}}}}
---
apiVersion: podling.test/v1
kind: Card
metadata: {name: ace, namespace: whole}
spec: {n: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: first, namespace: whole}
spec: {containers: [{name: c, image: my-monitor-app:v1}]}
"""


def test_one_file_may_hold_a_namespace_a_definition_and_what_lives_in_them(monitor: System, other: Traces) -> None:
    project = monitor.person.home / "whole"
    (project / "k8s").mkdir(parents=True)
    (project / "k8s" / "all.yaml").write_text(WHOLE)
    monitor.person.podling("up", monitor.person.own(project), "--name", "other")
    kubectl = Kubectl(monitor.person, "podling-other")
    assert kubectl("get", "cards,pods", "-n", "whole", "-o", "name").split() == [
        "card.podling.test/ace",
        "pod/first",
    ]


def test_help_names_every_command(person: Person) -> None:
    shown = person.podling("--help").stdout
    for command in ("up", "down", "status", "build", "logs", "kubeconfig", "version"):
        assert f"\n  {command} " in shown
        assert "--help" in person.podling(command, "--help").stdout
    unknown = person.podling("upp", check=False)
    assert (unknown.returncode, "No such command 'upp'" in unknown.stderr) == (2, True)


def test_version(person: Person) -> None:
    assert set(person.podling_json("version")) == {"podling", "kubernetes"}
