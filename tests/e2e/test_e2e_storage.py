"""Volumes made to order: data outlive pods, the daemon and the cluster's processes, and go with their claim."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from support.kubectl import Kubectl
from support.people import Person
from support.system import wait_until

NAME = "storage"
STATEFUL_SET = """\
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      securityContext: {runAsUser: %d, fsGroup: %d}
      containers:
      - name: c
        image: python:3.12-slim
        command: [sh, -c, "mkdir -p -m 0700 /data/closed; echo $HOSTNAME >> /data/closed/starts; exec sleep 1000000"]
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""


class Cluster:
    def __init__(self, person: Person) -> None:
        self.person = person
        self.kubectl = Kubectl(person, f"podling-{NAME}")
        self.volumes = Path(person.env["PODLING_HOME"]) / "clusters" / NAME / "volumes"

    def starts(self, pod: str) -> list[str]:
        """What every start of the pod so far left in its volume."""
        return self.kubectl("exec", pod, "--", "cat", "/data/closed/starts").split()

    def wait_for_start(self, pod: str, count: int) -> None:
        def started() -> bool:
            shown = self.kubectl.run("exec", pod, "--", "cat", "/data/closed/starts", check=False)
            return shown.stdout.split() == [pod] * count

        wait_until(started, what=f"{pod} did not start {count} times on the same data")

    def claim(self, name: str) -> dict:
        return self.kubectl.json("get", "pvc", name)

    def kill_daemon(self) -> None:
        processes = self.person.podling_json("status", "--name", NAME)["processes"]
        os.kill(next(p["pid"] for p in processes if p["name"] == "daemon"), signal.SIGKILL)
        wait_until(lambda: self.kubectl.run("get", "--raw", "/readyz", check=False).returncode == 0)


@pytest.fixture(scope="module")
def cluster(person: Person) -> Generator[Cluster]:
    try:
        person.podling("up", "--empty", "--name", NAME)
        cluster = Cluster(person)
        user = 1234 if person.kind == "root" else 0
        cluster.kubectl.apply(STATEFUL_SET % (user, user))
        cluster.kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
        yield cluster
    finally:
        person.podling("down", "--name", NAME, check=False)


def test_every_replica_has_a_volume_of_the_default_class(cluster: Cluster) -> None:
    for pod in ("db-0", "db-1"):
        claim = cluster.claim(f"data-{pod}")
        assert claim["spec"]["storageClassName"] == "standard"
        assert claim["status"]["phase"] == "Bound"
        assert (cluster.volumes / claim["spec"]["volumeName"]).is_dir()
        assert cluster.starts(pod) == [pod]


def test_data_outlive_the_pod_the_daemon_and_the_processes(cluster: Cluster) -> None:
    cluster.kubectl("delete", "pod", "db-0", "--wait=true")
    cluster.wait_for_start("db-0", 2)
    cluster.kill_daemon()
    assert cluster.starts("db-0") == ["db-0"] * 2
    cluster.person.podling("down", "--keep", "--name", NAME)
    cluster.person.podling("up", "--empty", "--name", NAME)
    cluster.wait_for_start("db-0", 3)
    cluster.wait_for_start("db-1", 2)


def test_a_bound_claim_grows(cluster: Cluster) -> None:
    cluster.kubectl("patch", "pvc", "data-db-0", "-p", '{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}')
    cluster.kubectl.wait("pvc/data-db-0", "jsonpath={.status.capacity.storage}=2Gi")


def test_the_directory_goes_with_the_claim(cluster: Cluster) -> None:
    assert any(cluster.volumes.iterdir())
    cluster.kubectl("delete", "statefulset", "db")
    cluster.kubectl("delete", "pvc", "--all")
    wait_until(lambda: cluster.kubectl("get", "pv", "-o", "name") == "", what="volumes stay")
    assert list(cluster.volumes.iterdir()) == []
