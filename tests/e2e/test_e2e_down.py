"""`podling down` leaves nothing on the machine, whatever has happened to the cluster before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.kubectl import Kubectl
from support.people import Person
from support.traces import Traces, assert_gone, links

DOCKERFILE = """\
FROM python:3.12-slim
CMD ["python", "-c", "import os, time; os.makedirs('/data/closed', 0o000); time.sleep(3600)"]
"""
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: %d, fsGroup: %d}
  containers:
  - name: c
    image: writer
    imagePullPolicy: Never
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
"""


def project(person: Person) -> Path:
    """One pod that writes, where the tier allows it as another user, and closes a directory to its owner."""
    root = person.home / "writer"
    if not root.exists():
        (root / "k8s").mkdir(parents=True)
        (root / "Dockerfile").write_text(DOCKERFILE)
        many = person.kind == "root"
        (root / "k8s" / "pod.yaml").write_text(POD % ((1234, 1234) if many else (0, 0)))
        person.own(root)
    return root


@contextmanager
def up(person: Person, name: str, *args: str | Path) -> Generator[Traces]:
    traces = Traces(person, name)
    try:
        person.podling("up", *(args or (project(person),)), "--name", name)
        yield traces
    finally:
        person.podling("down", "--name", name, check=False)


def kill(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def process(traces: Traces, name: str) -> int:
    found = traces.person.podling_json("status", "--name", traces.name)["processes"]
    pid: int = next(p["pid"] for p in found if p["name"] == name)
    return pid


VICTIMS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "the helper": ("helper",),
    "the zygote": ("zygote",),
    "the daemon": ("daemon",),
    "the proxy": ("proxy",),
    "all of them": ("helper", "zygote", "daemon", "proxy"),
}


@pytest.mark.parametrize("victims", VICTIMS.values(), ids=VICTIMS.keys())
def test_nothing_is_left_after_kill_9_of(person: Person, victims: tuple[str, ...]) -> None:
    before = links()
    with up(person, "gone") as traces:
        processes = traces.processes()
        assert len(processes) >= 5
        kill(*[process(traces, v) for v in victims])
        done = person.podling("down", "--name", "gone")
        assert "Ending cluster gone" in done.stderr
        assert_gone(traces, processes, before)


def test_down_twice_says_that_there_is_nothing(person: Person) -> None:
    done = person.podling("down", "--name", "never")
    assert "There is no cluster never; nothing to do." in done.stderr


def test_a_reboot_leaves_process_ids_that_belong_to_others_now(person: Person) -> None:
    with up(person, "reboot", "--empty") as traces:
        written = traces.node()
        kill(*traces.processes())
        with bystander() as innocent:
            (traces.state / "run" / "node.json").write_text(
                json.dumps({**written, "helper": innocent.pid, "zygote": innocent.pid})
            )
            assert person.podling("status", "--name", "reboot", check=False).returncode == 1
            person.podling("down", "--name", "reboot")
            assert innocent.poll() is None
        assert traces.files() == []


@contextmanager
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        yield innocent
    finally:
        innocent.kill()
        innocent.wait()


def test_a_cluster_that_was_killed_comes_back_by_up(person: Person) -> None:
    with up(person, "back") as traces:
        kubectl = Kubectl(person, "podling-back")
        uid = kubectl.json("get", "pod", "writer")["metadata"]["uid"]
        kubectl("create", "configmap", "kept")
        kill(traces.node()["helper"])
        person.podling("up", project(person), "--name", "back")
        assert kubectl.json("get", "pod", "writer")["metadata"]["uid"] == uid
        assert "kept" in kubectl("get", "configmaps", "-o", "name")


HALF_MADE = {
    "an empty directory": {},
    "no sockets": {"cluster.json": '{"name": "half", "node": "podling-half", "api_port": 1}', "run/lock": ""},
    "a record cut short": {"cluster.json": '{"name": "ha'},
    "a node's record cut short": {"run/node.json": '{"helper": 12'},
    "a damaged store": {"state.db": "no database"},
}


@pytest.mark.parametrize("files", HALF_MADE.values(), ids=HALF_MADE.keys())
def test_a_half_made_cluster_is_removed(person: Person, files: dict[str, str]) -> None:
    traces = Traces(person, "half")
    traces.state.mkdir(parents=True)
    for name, text in files.items():
        file = traces.state / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    person.own(traces.home)
    person.podling("status", "--name", "half", check=False)
    person.podling("down", "--name", "half")
    assert traces.files() == []
