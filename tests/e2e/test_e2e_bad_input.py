"""What is wrong is said with its place and its mend, by a non-zero code, and leaves the running cluster alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from support.kubectl import Kubectl
from support.manifests import as_yaml, workload
from support.people import Person
from support.system import System, identity, wait_until

CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first}\ndata: {key: value}\n"


def deployment(image: str, policy: str, name: str = "trouble") -> str:
    return as_yaml(workload("Deployment", name, {"name": "c", "image": image, "imagePullPolicy": policy}))


class Project:
    """A directory of files that the test writes."""

    def __init__(self, person: Person, root: Path) -> None:
        self.person = person
        self.root = root

    def write(self, **files: str) -> Path:
        """`k8s__d_yaml="..."` is k8s/d.yaml."""
        shutil.rmtree(self.root, ignore_errors=True)
        for name, text in files.items():
            file = self.root / name.replace("__", "/").replace("_yaml", ".yaml")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return self.person.own(self.root)


@pytest.fixture
def project(monitor: System) -> Project:
    return Project(monitor.person, monitor.person.home / "bad")


@pytest.fixture(autouse=True)
def untouched(monitor: System) -> Generator[None]:
    """Whatever a test of this file does, the monitor runs on as it ran, and nothing else was made."""

    def seen() -> object:
        names = monitor.kubectl("get", "deployments,configmaps,services", "-o", "name").split()
        return sorted(names), sorted(identity(pod) for pod in monitor.pods())

    before = seen()
    yield
    assert seen() == before


def refused(monitor: System, *args: str | Path, code: int = 1) -> str:
    done = monitor.person.podling(*args, "--name", monitor.name, check=False)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    return done.stderr


MANIFESTS = {
    "broken YAML": ("a: b\nspec: {\n", "d.yaml:3: not valid YAML"),
    "no object": (f"{CONFIG_MAP}---\n- 1\n", "d.yaml:6: an object is expected here"),
    "no kind": (f"{CONFIG_MAP}---\napiVersion: v1\n", "d.yaml:6: kind is not set"),
    "an unknown kind": (
        f"{CONFIG_MAP}---\napiVersion: apps/v1\nkind: Deploymant\nmetadata: {{name: x}}\n",
        'd.yaml:6: no matches for kind "Deploymant" in version "apps/v1"',
    ),
    "a wrong type": (
        f"{CONFIG_MAP}---\n{CONFIG_MAP.replace('{key: value}', '7').replace('first', 'second')}",
        "d.yaml:6: configmap/second:",
    ),
    "an unknown field": (
        f"{CONFIG_MAP}---\n{CONFIG_MAP.replace('data: {key', 'datum: {key').replace('first', 'second')}",
        "(default/second; /v1, Kind=ConfigMap): .datum: field not declared in schema",
    ),
    "an invalid value": (
        f"{CONFIG_MAP}---\n{deployment('x', 'Never', name='Not_A_Name')}",
        "a lowercase RFC 1123 subdomain must consist of",
    ),
}


@pytest.mark.parametrize(("text", "message"), MANIFESTS.values(), ids=MANIFESTS.keys())
def test_manifests_with(monitor: System, project: Project, text: str, message: str) -> None:
    assert message in refused(monitor, "up", project.write(k8s__d_yaml=text))


IMAGES = {
    "never pulled": ("nowhere.invalid/none:1", "Never", "ErrImageNeverPull"),
    "no registry": ("nowhere.invalid/none:1", "IfNotPresent", "nowhere.invalid/none:1"),
    "no name": ("Not::Valid", "Never", "InvalidImageName"),
}


@pytest.mark.parametrize(("image", "policy", "message"), IMAGES.values(), ids=IMAGES.keys())
def test_an_image_that_cannot_be_had_is_not_waited_for(
    monitor: System, project: Project, image: str, policy: str, message: str
) -> None:
    said = refused(monitor, "up", project.write(k8s__d_yaml=deployment(image, policy)))
    assert "deployment/trouble is not ready:\n  pod trouble-" in said
    assert message in said
    monitor.kubectl("delete", "deployment", "trouble")


def test_what_is_lost_is_told_at_once_while_something_else_is_waited_for(monitor: System, project: Project) -> None:
    homeless = "apiVersion: v1\nkind: Pod\nmetadata: {name: homeless}\n" + (
        "spec: {nodeSelector: {no: node}, containers: [{name: c, image: python:3.12-slim}]}\n"
    )
    lost = deployment("nowhere.invalid/none:1", "Never")
    said = refused(monitor, "up", project.write(k8s__a_yaml=homeless, k8s__d_yaml=lost))
    assert "deployment/trouble is not ready:\n  pod trouble-" in said
    assert "pod/homeless is not ready" not in said
    monitor.kubectl("delete", "deployment/trouble", "pod/homeless")


SKAFFOLD = """\
apiVersion: skaffold/v4beta11
kind: Config
build:
  artifacts:
  - image: bad
    %s
manifests:
  rawYaml: ["k8s/*.yaml"]
"""
BUILDS = {
    "no Dockerfile": ({"skaffold_yaml": SKAFFOLD % "context: ."}, "Dockerfile"),
    "an unknown instruction": ({"Dockerfile": "FROM scratch\nRUNN true\n"}, "Dockerfile:2:"),
    "a file that is not there": ({"Dockerfile": "FROM scratch\nCOPY absent /\n"}, "Dockerfile:2:"),
    "no such base": ({"Dockerfile": "FROM nowhere.invalid/none:1\n"}, "nowhere.invalid/none:1"),
    "a failing step": (
        {"Dockerfile": "FROM python:3.12-slim\nRUN echo what it said && exit 3\n"},
        "what it said\n",
    ),
    "skaffold's unknown field": ({"skaffold_yaml": SKAFFOLD % "contecst: ."}, "skaffold.yaml:6:"),
    "skaffold's other builder": ({"skaffold_yaml": SKAFFOLD % "bazel: {}"}, "skaffold.yaml:6:"),
    "broken skaffold.yaml": ({"skaffold_yaml": "build: [\n"}, "skaffold.yaml:2:"),
}


@pytest.mark.parametrize(("files", "message"), BUILDS.values(), ids=BUILDS.keys())
def test_a_build_with(monitor: System, project: Project, files: dict[str, str], message: str) -> None:
    manifest = deployment("bad", "Never")
    said = refused(monitor, "up", project.write(k8s__d_yaml=manifest, **files))
    assert message in said


def test_a_directory_without_anything(monitor: System, project: Project) -> None:
    assert "no skaffold.yaml and no k8s/ directory" in refused(monitor, "up", project.write(readme="words"))


def test_a_directory_that_is_not_there(monitor: System) -> None:
    assert "does not exist" in refused(monitor, "up", "/not/there", code=2)


def test_a_name_that_cannot_be_one(monitor: System) -> None:
    done = monitor.person.podling("up", "--empty", "--name", "Not_a_name", check=False)
    assert (done.returncode, "cannot name a cluster" in done.stderr) == (2, True)


SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: held}
spec:
  type: %s
  ports: [%s]
"""


def test_a_node_port_in_use(monitor: System, project: Project) -> None:
    with socket.create_server(("127.0.0.1", 30999)):
        root = project.write(k8s__d_yaml=SERVICE % ("NodePort", "{port: 80, nodePort: 30999}"))
        said = refused(monitor, "up", root)
    assert "service default/held: port 30999 is in use on this machine" in said
    monitor.kubectl("delete", "service", "held")


def test_a_balancers_port_in_use_has_a_second_choice_and_says_so(monitor: System, project: Project) -> None:
    with socket.create_server(("127.0.0.1", 9191)):
        root = project.write(k8s__d_yaml=SERVICE % ("LoadBalancer", "{port: 9191}"))
        done = monitor.person.podling("up", root, "--name", monitor.name)
    assert "http://localhost:17191" in done.stderr
    assert "port 9191 is in use on this machine" in done.stderr
    monitor.kubectl("delete", "service", "held")


def test_two_commands_of_one_cluster_at_a_time(monitor: System) -> None:
    lock = Path(monitor.person.env["PODLING_HOME"]) / "clusters" / f".{monitor.name}.lock"
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for command in ("up", "down"):
            said = refused(monitor, command, *(["--empty"] if command == "up" else []))
            assert f"another podling command is starting or ending cluster {monitor.name}" in said


def test_a_home_without_permission(monitor: System) -> None:
    stranger = replace(monitor.person, extra={"PODLING_HOME": "/proc/1/podling"})
    done = stranger.podling("up", "--empty", "--name", "other", check=False)
    assert (done.returncode, "/proc/1/podling" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_no_namespaces_to_be_had(monitor: System) -> None:
    """In a user namespace of the test's own, whose limit no other process feels."""
    podling = monitor.person.bin / "podling"
    script = (
        f"echo 1 > /proc/sys/user/max_user_namespaces && exec unshare -U --map-user=1000 {podling} up --empty --name no"
    )
    home = {"PODLING_HOME": str(monitor.person.home / "none")}
    person = replace(monitor.person, extra=home)
    done = person.run("unshare", "-Ur", "sh", "-c", script, check=False)
    assert done.returncode == 1, done
    assert "cluster no did not start: rootless-single: user namespaces do not work" in done.stderr
    person.podling("down", "--name", "no")


def test_kubectl_is_missed_only_where_it_is_needed(monitor: System, project: Project) -> None:
    tools = monitor.person.home / "tools"
    tools.mkdir(exist_ok=True)
    person = replace(monitor.person, extra={"PATH": str(tools)})
    plain = person.podling("up", project.write(k8s__d_yaml=CONFIG_MAP), "--name", monitor.name, check=False)
    assert plain.returncode == 0, plain
    monitor.kubectl("delete", "configmap", "first")
    kustomized = project.write(k8s__d_yaml=CONFIG_MAP, k8s__kustomization_yaml="resources: [d.yaml]\n")
    done = person.podling("up", kustomized, "--name", monitor.name, check=False)
    assert (done.returncode, "needs kubectl on your PATH" in done.stderr) == (1, True)


def test_a_store_that_is_damaged(monitor: System) -> None:
    state = Path(monitor.person.env["PODLING_HOME"]) / "clusters" / "damaged"
    state.mkdir()
    (state / "state.db").write_text("this is no database")
    monitor.person.own(state)
    done = monitor.person.podling("up", "--empty", "--name", "damaged", check=False, timeout=20)
    assert (done.returncode, "the state file is damaged" in done.stderr) == (1, True)
    monitor.person.podling("down", "--name", "damaged")


@contextlib.contextmanager
def small_disk(person: Person) -> Generator[Path]:
    directory = person.home / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", directory], check=True)
    try:
        person.own(directory)
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)
        directory.rmdir()


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_said_and_heals_and_loses_nothing_acknowledged(monitor: System) -> None:
    with small_disk(monitor.person) as disk:
        person = replace(monitor.person, extra={"PODLING_HOME": str(disk)})
        kubectl = Kubectl(person, "podling-full")
        person.podling("up", "--empty", "--name", "full")
        try:
            kubectl("create", "configmap", "before")
            fill = disk / "fill"
            acknowledged = _fill_and_write(kubectl, fill)
            assert "before" in kubectl("get", "configmaps", "-o", "name")
            no_room = person.podling("up", "--empty", "--name", "another", check=False)
            assert no_room.returncode == 1
            assert "Traceback" not in no_room.stderr
            fill.unlink()
            kubectl("create", "configmap", "after")
            kept = kubectl("get", "configmaps", "-o", "name").split()
            assert {"configmap/before", "configmap/after", *acknowledged} <= set(kept)
        finally:
            person.podling("down", "--name", "another")
            person.podling("down", "--name", "full")
        assert list((disk / "clusters").iterdir()) == []


def _fill_and_write(kubectl: Kubectl, fill: Path) -> list[str]:
    """Writes until one is refused; the names of those that were not."""
    with fill.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))
    acknowledged: list[str] = []
    for number in range(200):
        literal = f"--from-literal=text={'x' * 50_000}"
        done = kubectl.run("create", "configmap", f"big-{number}", literal, check=False)
        if done.returncode != 0:
            assert "no space left on the disk; make room and try again" in done.stderr
            return acknowledged
        acknowledged.append(f"configmap/big-{number}")
    raise AssertionError("the disk did not fill")


def test_a_daemon_that_is_away_is_said(monitor: System) -> None:
    """It is stopped, not killed: a killed one is back at once."""
    pid = monitor.process("daemon")
    os.kill(pid, signal.SIGSTOP)
    try:
        done = monitor.person.podling("status", "--name", monitor.name, check=False, timeout=30)
        assert (done.returncode, "its API does not answer" in done.stdout) == (1, True)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: monitor.person.podling("status", "--name", monitor.name, check=False).returncode == 0)
