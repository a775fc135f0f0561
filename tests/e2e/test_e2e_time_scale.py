"""A cluster whose time runs sixty times as fast: a minute of CronJobs in a second, with real pods."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from support.kubectl import Kubectl
from support.people import Person
from support.system import wait_until

NAME = "faster"
SCALE = 60
CRON_JOB = """\
apiVersion: batch/v1
kind: CronJob
metadata: {name: %(name)s}
spec:
  schedule: "%(schedule)s"
  concurrencyPolicy: %(policy)s
  successfulJobsHistoryLimit: %(kept)d
  jobTemplate:
    metadata: {labels: {of: %(name)s}}
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: c, image: "python:3.12-slim", command: [sleep, "%(sleep)s"]}]
"""
SLEEPER = """\
apiVersion: %(version)s
kind: %(kind)s
metadata: {name: %(name)s}
spec: {%(spec)s}
"""
TRAP = "trap 'sleep 1.5; exit 0' TERM; touch /tmp/ready; sleep 1000 & wait"


class Cluster:
    def __init__(self, person: Person) -> None:
        self.person = person
        self.kubectl = Kubectl(person, f"podling-{NAME}")
        self.hour = (self.now() + timedelta(minutes=4)).replace(second=0, microsecond=0)
        """When the hourly job is due."""

    def cron_job(self, name: str, schedule: str, *, policy: str = "Allow", kept: int = 100, sleep: float = 0) -> None:
        given = {"name": name, "schedule": schedule, "policy": policy, "kept": kept, "sleep": sleep}
        self.kubectl.apply(CRON_JOB % given)

    def jobs(self, name: str) -> list[Any]:
        return self.kubectl.json("get", "jobs", "-l", f"of={name}")["items"]

    def done(self, name: str) -> list[Any]:
        return [job for job in self.jobs(name) if job["status"].get("succeeded")]

    def now(self) -> datetime:
        return datetime.fromisoformat(self.status()["time"])

    def status(self) -> Any:
        return self.person.podling_json("status", "--name", NAME)

    def kill_daemon(self) -> None:
        os.kill(next(p["pid"] for p in self.status()["processes"] if p["name"] == "daemon"), signal.SIGKILL)
        wait_until(lambda: self.kubectl.run("get", "--raw", "/readyz", check=False).returncode == 0)


def scheduled(job: Any) -> datetime:
    """The moment of the schedule for which a job was made."""
    return datetime.fromisoformat(job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"])


def created(obj: Any) -> datetime:
    return datetime.fromisoformat(obj["metadata"]["creationTimestamp"])


@pytest.fixture(scope="module")
def cluster(persons: dict[str, Person]) -> Generator[Cluster]:
    """Of whoever runs the tests: how time runs does not depend on the tier."""
    person = persons["root" if os.getuid() == 0 else "rootless"]
    try:
        person.podling("up", "--empty", "--name", NAME, "--time-scale", str(SCALE))
        yield _busy(Cluster(person))
    finally:
        person.podling("down", "--name", NAME, check=False)


def _busy(cluster: Cluster) -> Cluster:
    """All begin at once, so that their times pass together."""
    cluster.cron_job("minutely", "* * * * *")
    cluster.cron_job("hourly", f"{cluster.hour.minute} * * * *")
    cluster.cron_job("long", "* * * * *", policy="Forbid", kept=1, sleep=1.5)
    cluster.kubectl.apply(_job("short", "ttlSecondsAfterFinished: 60", "true"))
    cluster.kubectl.apply(_job("endless", "activeDeadlineSeconds: 120", "sleep 1000"))
    return cluster


def test_every_minute_is_a_second_and_none_is_missed(cluster: Cluster) -> None:
    wait_until(lambda: len(cluster.done("minutely")) >= 4, what="four minutes of jobs did not pass")
    jobs = sorted(cluster.done("minutely"), key=scheduled)
    minutes = [scheduled(job) for job in jobs]
    assert all(moment.second == 0 for moment in minutes)
    assert {later - earlier for earlier, later in pairwise(minutes)} == {timedelta(minutes=1)}
    late = [(created(job) - scheduled(job)).total_seconds() / SCALE for job in jobs]
    print(f"late by {min(late):.2f} to {max(late):.2f} s of the machine")
    assert all(-0.1 < seconds < 1 for seconds in late)


def test_an_hourly_job_runs_at_its_minute(cluster: Cluster) -> None:
    wait_until(lambda: len(cluster.done("hourly")) == 1, what="the hour did not come")
    assert scheduled(cluster.jobs("hourly")[0]) == cluster.hour


@pytest.mark.slow  # an hour is a minute
def test_an_hourly_job_runs_an_hour_later_again(cluster: Cluster) -> None:
    wait_until(lambda: len(cluster.done("hourly")) == 2, timeout=70, what="the next hour did not come")
    first, second = sorted(map(scheduled, cluster.jobs("hourly")))
    assert second - first == timedelta(hours=1)


def test_a_forbidden_overlap_waits_and_history_is_short(cluster: Cluster) -> None:
    seen: set[str] = set()

    def several_have_run() -> bool:
        jobs = cluster.jobs("long")
        seen.update(job["metadata"]["name"] for job in jobs)
        assert sum(not job["status"].get("conditions") for job in jobs) <= 1
        return len(seen) >= 3

    wait_until(several_have_run, what="three jobs did not run one after the other")
    wait_until(lambda: len(cluster.done("long")) == 1, what="more than one finished job is kept")


def test_a_finished_job_goes_when_its_time_to_live_is_over(cluster: Cluster) -> None:
    cluster.kubectl.wait("job/short", "delete", timeout=10)


def test_a_job_s_deadline_is_the_cluster_s(cluster: Cluster) -> None:
    cluster.kubectl.wait("job/endless", "condition=Failed", timeout=15)
    assert "DeadlineExceeded" in cluster.kubectl("get", "job", "endless", "-o", "jsonpath={.status.conditions}")


def test_a_program_has_its_grace_period_in_its_own_time(cluster: Cluster) -> None:
    """30 s of the cluster would be half a second, after which it were killed."""
    container = f"containers: [{{name: c, image: 'python:3.12-slim', command: [sh, -c, {TRAP!r}]}}]"
    cluster.kubectl.apply(SLEEPER % {"version": "v1", "kind": "Pod", "name": "slow", "spec": container})
    cluster.kubectl.wait("pod/slow", "condition=Ready")
    ready = ("exec", "slow", "--", "test", "-e", "/tmp/ready")
    wait_until(lambda: cluster.kubectl.run(*ready, check=False).returncode == 0)
    began = time.monotonic()
    cluster.kubectl("delete", "pod", "slow", "--wait=true")
    assert time.monotonic() - began > 1.4


def test_time_never_goes_back(cluster: Cluster) -> None:
    before = cluster.now()
    cluster.kill_daemon()
    cluster.kubectl("create", "configmap", "after-the-daemon")
    second = created(cluster.kubectl.json("get", "configmap", "after-the-daemon"))
    cluster.person.podling("down", "--keep", "--name", NAME)
    cluster.person.podling("up", "--empty", "--name", NAME)
    cluster.kubectl("create", "configmap", "after-all")
    third = created(cluster.kubectl.json("get", "configmap", "after-all"))
    assert before <= second <= third
    newest = max(map(scheduled, cluster.jobs("minutely")))
    wait_until(lambda: max(map(scheduled, cluster.jobs("minutely"))) > newest, what="no job since the restart")
    assert cluster.kubectl("get", "nodes", "--no-headers").split()[1] == "Ready"


def test_the_scale_cannot_be_changed(cluster: Cluster) -> None:
    refused = cluster.person.podling("up", "--empty", "--name", NAME, "--time-scale", "2", check=False)
    assert refused.returncode == 1
    assert f"was made with --time-scale {SCALE}" in refused.stderr


def _job(name: str, spec: str, command: str) -> str:
    container = f"{{name: c, image: 'python:3.12-slim', command: [sh, -c, {command!r}]}}"
    template = (
        f"template: {{spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{container}]}}}}"
    )
    return SLEEPER % {"version": "batch/v1", "kind": "Job", "name": name, "spec": f"{spec}, {template}"}
