"""What is told of pods and of the ports at which services answer."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from podling.cli import status, workloads
from podling.cli.cluster import explain


def pod(container: Any, **extra: Any) -> Any:
    return {"metadata": {"name": "p"}, "status": {"containerStatuses": [container], **extra}}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"waiting": {"reason": "ImagePullBackOff"}}, "ImagePullBackOff"),
        ({"waiting": {"reason": "PodInitializing"}}, ""),
        ({"terminated": {"reason": "Error", "exitCode": 1}}, "Error"),
        ({"terminated": {"reason": "Completed", "exitCode": 0}}, ""),
        ({"running": {}}, ""),
    ],
)
def test_the_reason_of_a_pod_is_the_word_that_kubectl_shows(state: Any, reason: str) -> None:
    assert workloads.reason(pod({"name": "c", "state": state})) == reason


def test_a_pod_on_its_way_out_is_terminating_whatever_its_containers_say() -> None:
    running = pod({"name": "c", "state": {"running": {}}})
    running["metadata"]["deletionTimestamp"] = "2026-07-01T12:00:00Z"
    assert workloads.reason(running) == "Terminating"


def test_a_pod_without_a_place_says_so() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    assert workloads.reason({"metadata": {}, "status": {"conditions": [condition]}}) == "Unschedulable"


@pytest.mark.parametrize(
    ("port", "number", "url"),
    [
        ("80/TCP", 80, "http://localhost"),
        ("80/TCP", 8080, "http://localhost:8080"),
        ("443/TCP", 443, "https://localhost"),
        ("443/TCP", 8443, "https://localhost:8443"),
    ],
)
def test_urls(port: str, number: int, url: str) -> None:
    assert status.url(port, number) == url
    assert status.is_explained({"port": port, "url": url, "note": ""}) == port.startswith(f"{number}/")
    assert status.is_explained({"port": port, "url": url, "note": "the port is in use"})


def test_a_deployment_with_old_pods_is_not_ready_yet() -> None:
    rolled = {"spec": {"replicas": 2}, "status": {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}}
    rolling = {"spec": {"replicas": 2}, "status": {"replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}}
    assert workloads.COUNTS["Deployment"](rolled) == (2, 2)
    assert workloads.COUNTS["Deployment"](rolling) == (1, 2)


class FakeApi:
    def __init__(self, **lists: list[Any]) -> None:
        self._lists = lists

    def get(self, path: str, **_: str) -> Any:
        return {"items": self._lists.get(path.rpartition("/")[2], [])}


def test_jobs_are_told_with_what_became_of_them_and_cron_jobs_with_their_schedule() -> None:
    def job(name: str, status: Any, owner: str = "") -> Any:
        owners = [{"kind": "CronJob", "name": owner, "controller": True}] if owner else []
        metadata = {"namespace": "shop", "name": name, "ownerReferences": owners}
        return {"metadata": metadata, "spec": {"completions": 2}, "status": status}

    done, failed = [{"type": "Complete", "status": "True"}], [{"type": "Failed", "status": "True"}]
    jobs = [
        job("migrate", {"succeeded": 2, "conditions": done}),
        job("import", {"succeeded": 1}),
        job("report-1", {"succeeded": 2, "conditions": done}, "report"),
        job("report-2", {"conditions": failed, "failed": 6}, "report"),
    ]
    schedule = {"schedule": "0 3 * * *"}
    cron = {"metadata": {"namespace": "shop", "name": "report"}, "spec": schedule, "status": {"active": [{}]}}
    found = status.jobs(FakeApi(jobs=jobs, cronjobs=[cron]))  # pyright: ignore[reportArgumentType]
    assert status.rows_of({"nodes": [], "workloads": [], "urls": [], "pods": [], **found}) == [
        ("cronjob", "shop/report", "0 3 * * *, 1 active, not run yet"),
        ("job", "shop/migrate", "Complete, 2/2 succeeded"),
        ("job", "shop/import", "Running, 1/2 succeeded"),
        ("job", "shop/report-2", "Failed, 0/2 succeeded"),
    ]


def test_what_the_machine_refuses_is_said_with_its_mend() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/data/x")
    assert explain(full) == "No space left on device (/data/x): the disk is full: make room, then try again"
    assert explain(OSError("odd")) == "odd"
