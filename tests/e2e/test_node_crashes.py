"""The daemon is killed again and again while pods come, restart and go: what the API says is what runs, and nothing
is left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.kubectl import Kubectl
from support.people import Person

NAME = f"crashes-{os.getpid()}"
ROUNDS = 20
PODS = 30
BATCH = 6
LIVES = "sleep 3600"
RESTARTS = "sleep 0.7; exit 1"
ENDS = "sleep 0.3"


def pod(name: str, number: int) -> dict[str, Any]:
    """One of three kinds: it runs on, it fails and is restarted, it ends."""
    command, policy = ((LIVES, "Always"), (RESTARTS, "OnFailure"), (ENDS, "Never"))[number % 3]
    container = {
        "name": "app",
        "image": "debian:12-slim",
        "command": ["sh", "-c", command],
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"kind": policy}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": policy,
            "containers": [container],
            "volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
        },
    }


@dataclass
class Cluster:
    person: Person

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.person, f"podling-{NAME}")

    @property
    def state(self) -> Path:
        return self.person.home / "p" / "clusters" / NAME

    def process(self, name: str) -> int:
        processes = self.person.podling_json("status", "--name", NAME)["processes"]
        return next(p["pid"] for p in processes if p["name"] == name)

    def pods(self) -> list[Any]:
        return self.kubectl.json("get", "pods")["items"]

    def wait(self, what: str, condition: Any, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.05)

    def answers(self) -> bool:
        return self.kubectl.run("get", "--raw", "/readyz", check=False).returncode == 0


@pytest.fixture(scope="module")
def cluster(person: Person) -> Generator[Cluster]:
    try:
        person.podling("up", "--empty", "--name", NAME)
        yield Cluster(person)
    finally:
        person.podling("down", "--name", NAME, check=False)


def inside(cluster: Cluster, *command: str) -> str:
    """What a program sees in the node's network and mounts."""
    zygote = cluster.process("zygote")
    done = subprocess.run(
        [
            "nsenter",
            "-t",
            str(zygote),
            *(["-U", "--preserve-credentials"] if cluster.person.user else []),
            "-n",
            "-m",
            *command,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def remains(cluster: Cluster) -> dict[str, list[str]]:
    """What pods leave on the node while they are there, by kind."""
    mounts = inside(cluster, "cat", "/proc/self/mounts").splitlines()
    links = [entry["ifname"] for entry in json.loads(inside(cluster, "ip", "-j", "link") or "[]")]
    children = subprocess.run(
        ["ps", "--ppid", str(cluster.process("zygote")), "-o", "args="], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    return {
        "directories": [path.name for path in (cluster.state / "nodes" / f"podling-{NAME}" / "pods").iterdir()],
        "mounts": [line for line in mounts if "/pods/" in line],
        "links": [link for link in links if link.startswith("v")],
        "processes": [line for line in children if "podling" not in line and line.strip()],
        "groups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/podling-{NAME}/**/pod*") if path.is_dir()],
    }


def test_nothing_is_lost_or_left_when_the_daemon_dies_again_and_again(cluster: Cluster) -> None:
    dice = random.Random(1)
    before = remains(cluster)
    alive: dict[str, int] = {}
    for round in range(ROUNDS):
        new = {f"p{round}-{i}": i for i in range(BATCH) if len(alive) + i < PODS}
        if new:
            items = [pod(name, number) for name, number in new.items()]
            cluster.kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
            alive |= new
        if round % 3 == 2:
            doomed = dice.sample(sorted(alive), BATCH)
            cluster.kubectl("delete", "pod", "--wait=false", *doomed)
            alive = {name: number for name, number in alive.items() if name not in doomed}
        time.sleep(dice.uniform(0, 0.3))
        os.kill(cluster.process("daemon"), signal.SIGKILL)
        cluster.wait("the API does not come back", cluster.answers)
    cluster.wait("pods are not as they should be", lambda: as_they_should_be(cluster, alive))
    cluster.kubectl("delete", "pods", "--all", "--wait=true")
    cluster.wait(f"something is left: {remains(cluster)}", lambda: remains(cluster) == before, 10)


def as_they_should_be(cluster: Cluster, alive: dict[str, int]) -> bool:
    pods = {p["metadata"]["name"]: p for p in cluster.pods()}
    return pods.keys() == alive.keys() and all(_fits(pods[name], number % 3) for name, number in alive.items())


def _fits(pod: Any, kind: int) -> bool:
    entry = (pod["status"].get("containerStatuses") or [{}])[0]
    if kind == 0:
        return pod["status"]["phase"] == "Running" and entry["ready"] and entry["restartCount"] == 0
    if kind == 1:
        return pod["status"]["phase"] == "Running" and entry["restartCount"] > 0
    return pod["status"]["phase"] == "Succeeded"
