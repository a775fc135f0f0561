"""Limits on a real node: memory that the kernel takes away, resources that change under a running process, a disk that
fills, and a look at a container from beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from typing import Any

import pytest

from support.kubectl import Kubectl
from support.people import Person
from support.system import wait_until

NAME = f"limits-{os.getpid()}"
HOLDS = "import time; held = bytearray({} << 20); time.sleep(3600)"


@pytest.fixture(scope="module")
def kubectl(person: Person) -> Generator[Kubectl]:
    try:
        person.podling("up", "--empty", "--name", NAME)
        yield Kubectl(person, f"podling-{NAME}")
    finally:
        person.podling("down", "--name", NAME, check=False)


def run(kubectl: Kubectl, name: str, command: list[str], **container: Any) -> None:
    spec: dict[str, Any] = {"terminationGracePeriodSeconds": 0, "restartPolicy": container.pop("policy", "Never")}
    spec["volumes"] = container.pop("volumes", [])
    spec["containers"] = [{"name": "app", "image": "python:3.12-slim", "command": command, **container}]
    kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))


def status(kubectl: Kubectl, name: str) -> Any:
    return kubectl.json("get", "pod", name)["status"]


def state(kubectl: Kubectl, name: str) -> Any:
    return status(kubectl, name).get("containerStatuses", [{"state": {}}])[0]["state"]


def test_what_holds_more_memory_than_its_limit_is_killed_and_says_so(kubectl: Kubectl) -> None:
    run(kubectl, "hog", ["python3", "-c", HOLDS.format(200)], resources={"limits": {"memory": "64Mi"}})
    wait_until(lambda: "terminated" in state(kubectl, "hog"))
    ended = state(kubectl, "hog")["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_a_resize_makes_room_without_a_restart(kubectl: Kubectl) -> None:
    grows = "import time; time.sleep(4); held = bytearray(120 << 20); print('held', flush=True); time.sleep(3600)"
    run(kubectl, "growing", ["python3", "-c", grows], resources={"limits": {"memory": "64Mi"}})
    kubectl.wait("pod/growing", "condition=Ready")
    limits = {"limits": {"memory": "256Mi"}, "requests": {"memory": "128Mi"}}
    patch = {"spec": {"containers": [{"name": "app", "resources": limits}]}}
    kubectl("patch", "pod", "growing", "--subresource=resize", "-p", json.dumps(patch))
    wait_until(lambda: kubectl("logs", "growing") == "held\n")
    entry = status(kubectl, "growing")["containerStatuses"][0]
    assert (entry["restartCount"], entry["resources"]["limits"]["memory"]) == (0, "256Mi")


def test_a_volume_beyond_its_size_costs_the_pod_its_place(kubectl: Kubectl) -> None:
    writes = "open('/data/x', 'wb').write(bytes(20 << 20)); import time; time.sleep(3600)"
    volume = {"name": "data", "emptyDir": {"sizeLimit": "10Mi"}}
    mounts = [{"name": "data", "mountPath": "/data"}]
    run(kubectl, "filler", ["python3", "-c", writes], volumes=[volume], volumeMounts=mounts)
    wait_until(lambda: status(kubectl, "filler")["phase"] == "Failed")
    found = status(kubectl, "filler")
    assert found["reason"] == "Evicted"
    assert found["message"] == 'Usage of EmptyDir volume "data" exceeds the limit "10Mi". '


def test_a_debugger_sees_the_processes_of_its_target(kubectl: Kubectl) -> None:
    run(kubectl, "seen", ["python3", "-c", "import time; time.sleep(3600)"])
    kubectl.wait("pod/seen", "condition=Ready")
    look = ("sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline")
    kubectl("debug", "seen", "--image=python:3.12-slim", "--target=app", "-c", "look", "--profile=general", "--", *look)
    wait_until(lambda: "time.sleep" in kubectl.run("logs", "seen", "-c", "look", check=False).stdout)


def test_the_node_refuses_what_it_cannot_hold_and_answers_as_a_kubelet(kubectl: Kubectl) -> None:
    node = kubectl.json("get", "nodes")["items"][0]["metadata"]["name"]
    spec = {"nodeName": node, "containers": [{"name": "app", "image": "python:3.12-slim"}]}
    spec["containers"][0]["resources"] = {"requests": {"cpu": "1000"}}  # pyright: ignore[reportArgumentType]
    kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "huge"}, "spec": spec}))
    wait_until(lambda: status(kubectl, "huge")["phase"] == "Failed")
    assert status(kubectl, "huge")["reason"] == "OutOfcpu"
    base = f"/api/v1/nodes/{node}/proxy"
    assert kubectl("get", "--raw", f"{base}/healthz") == "ok"
    summary = json.loads(kubectl("get", "--raw", f"{base}/stats/summary"))
    assert "seen" in {pod["podRef"]["name"] for pod in summary["pods"]}
    assert 'pod="seen"' in kubectl("get", "--raw", f"{base}/metrics/resource")
