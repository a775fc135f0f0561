"""Volumes made to order: data outlive pods, the daemon and the cluster's processes, and go with their claim."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from support.kubectl import Kubectl
from support.manifests import as_yaml, container, data_claim, workload
from support.people import Person
from support.system import wait_until

NAME = "storage"
WRITE = "mkdir -p -m 0700 /data/closed; echo $HOSTNAME >> /data/closed/starts; exec sleep 1000000"


def stateful_set(user: int) -> str:
    return as_yaml(
        workload(
            "StatefulSet",
            "db",
            container("sh", "-c", WRITE, volumeMounts=[{"name": "data", "mountPath": "/data"}]),
            replicas=2,
            volumeClaimTemplates=[data_claim()],
            pod={"securityContext": {"runAsUser": user, "fsGroup": user}},
        )
    )


SNAPSHOT = """\
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata: {name: %s}
spec: {source: {persistentVolumeClaimName: %s}}
"""
FILLED = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: restored}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
  dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: before}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: cloned}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
  dataSourceRef: {kind: PersistentVolumeClaim, name: data-db-1}
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: python:3.12-slim
    command: [sleep, "1000000"]
    volumeMounts: [{name: restored, mountPath: /restored}, {name: cloned, mountPath: /cloned}]
  volumes:
  - {name: restored, persistentVolumeClaim: {claimName: restored}}
  - {name: cloned, persistentVolumeClaim: {claimName: cloned}}
"""


class Cluster:
    def __init__(self, person: Person) -> None:
        self.person = person
        self.kubectl = Kubectl(person, f"podling-{NAME}")
        self.user = "1234" if person.kind == "root" else "0"
        """As whom the StatefulSet's pods write."""
        state = Path(person.env["PODLING_HOME"]) / "clusters" / NAME
        self.volumes, self.snapshots = state / "volumes", state / "snapshots"

    def starts(self, pod: str) -> list[str]:
        """What every start of the pod so far left in its volume."""
        return self.kubectl("exec", pod, "--", "cat", "/data/closed/starts").split()

    def wait_for_start(self, pod: str, count: int) -> None:
        def started() -> bool:
            shown = self.kubectl.run("exec", pod, "--", "cat", "/data/closed/starts", check=False)
            return shown.stdout.split() == [pod] * count

        wait_until(started, what=f"{pod} did not start {count} times on the same data")

    def cat(self, pod: str, path: str) -> str:
        return self.kubectl("exec", pod, "--", "cat", path)

    def look(self, pod: str, volume: str) -> str:
        """Owners and modes of what the pods left in it."""
        return self.kubectl("exec", pod, "--", "sh", "-c", f"cd {volume} && stat -c '%n %u:%g %a' closed closed/*")

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
        user = int(cluster.user)
        cluster.kubectl.apply(stateful_set(user))
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


def test_a_snapshot_is_of_what_is_there_now(cluster: Cluster) -> None:
    """It is taken by the class that is the default. Another owner is there where the tier has more than one."""
    cluster.kubectl("exec", "db-0", "--", "sh", "-c", "cd /data/closed; touch other; chown 1234:4321 other || true")
    cluster.kubectl.apply(SNAPSHOT % ("before", "data-db-0"))
    cluster.kubectl.wait("volumesnapshot/before", "jsonpath={.status.readyToUse}=true")
    snapshot = cluster.kubectl.json("get", "volumesnapshot", "before")
    assert snapshot["spec"]["volumeSnapshotClassName"] == "standard"
    assert snapshot["status"]["restoreSize"] == "1Gi"
    kept = ["kubernetes.io/pvc-protection"]
    wait_until(lambda: cluster.claim("data-db-0")["metadata"]["finalizers"] == kept, what="the claim stays protected")


def test_data_outlive_the_pod_the_daemon_and_the_processes(cluster: Cluster) -> None:
    cluster.kubectl("delete", "pod", "db-0", "--wait=true")
    cluster.wait_for_start("db-0", 2)
    cluster.kill_daemon()
    assert cluster.starts("db-0") == ["db-0"] * 2
    cluster.person.podling("down", "--keep", "--name", NAME)
    cluster.person.podling("up", "--empty", "--name", NAME)
    cluster.wait_for_start("db-0", 3)
    cluster.wait_for_start("db-1", 2)


def test_a_snapshot_outlives_all_that_and_fills_a_new_claim_as_another_claim_does(cluster: Cluster) -> None:
    cluster.kubectl("exec", "db-0", "--", "sh", "-c", "echo lost > /data/closed/starts")
    cluster.kubectl.apply(FILLED)
    cluster.kubectl.wait("pod/reader", "condition=Ready")
    assert cluster.cat("reader", "/restored/closed/starts").split() == ["db-0"]
    assert cluster.cat("reader", "/cloned/closed/starts").split() == cluster.starts("db-1")
    assert cluster.look("reader", "/restored") == cluster.look("db-0", "/data")
    cluster.kubectl("exec", "reader", "--", "sh", "-c", "echo more >> /cloned/closed/starts")
    assert "more" not in cluster.starts("db-1")


@pytest.mark.slow  # it is large, so that the daemon dies in the middle of it
def test_a_copy_that_a_killed_daemon_had_begun_is_made_whole_by_the_next(cluster: Cluster) -> None:
    cluster.kubectl("exec", "db-1", "--", "sh", "-c", "head -c 200000000 /dev/urandom > /data/large")
    whole = cluster.kubectl("exec", "db-1", "--", "md5sum", "/data/large").split()[0]
    cluster.kubectl.apply(SNAPSHOT % ("large", "data-db-1"))
    cluster.kill_daemon()
    cluster.kubectl.wait("volumesnapshot/large", "jsonpath={.status.readyToUse}=true")
    (copy,) = cluster.snapshots.glob("*/large")
    assert hashlib.md5(copy.read_bytes()).hexdigest() == whole
    wait_until(lambda: not list(cluster.snapshots.glob(".*")), what="half a copy is left")


def test_what_is_on_the_disk_goes_with_its_snapshot(cluster: Cluster) -> None:
    cluster.kubectl("delete", "volumesnapshot", "--all")
    wait_until(lambda: cluster.kubectl("get", "volumesnapshotcontents", "-o", "name") == "", what="contents stay")
    assert list(cluster.snapshots.iterdir()) == []
    cluster.kubectl("delete", "pod", "reader")


def test_a_bound_claim_grows(cluster: Cluster) -> None:
    cluster.kubectl("patch", "pvc", "data-db-0", "-p", '{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}')
    cluster.kubectl.wait("pvc/data-db-0", "jsonpath={.status.capacity.storage}=2Gi")


def test_the_directory_goes_with_the_claim(cluster: Cluster) -> None:
    assert any(cluster.volumes.iterdir())
    cluster.kubectl("delete", "statefulset", "db")
    cluster.kubectl("delete", "pvc", "--all")
    wait_until(lambda: cluster.kubectl("get", "pv", "-o", "name") == "", what="volumes stay")
    assert list(cluster.volumes.iterdir()) == []
