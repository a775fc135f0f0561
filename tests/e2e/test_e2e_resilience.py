"""The resilient monitor, frozen, crashed, deleted, rolled out, and without its control plane: nothing is lost."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from support.load import Load, Report
from support.system import DEPLOYMENT, SELECTOR, System, exchange, identity, wait_until


def nothing_lost(report: Report) -> None:
    print(report)
    assert not report.lost, f"{report}; the first: {report.lost[0]}"


def test_it_answers_and_is_spread_over_both_pods(monitor: System) -> None:
    names = {pod["metadata"]["name"] for pod in monitor.pods()}
    assert len(names) == 2
    answered = Counter(monitor.request("/")[1]["x-pod"] for _ in range(60))
    assert set(answered) == names
    assert min(answered.values()) >= 10, answered


def test_a_deleted_pod_is_replaced_and_no_request_is_lost(monitor: System) -> None:
    victim = monitor.pods()[0]["metadata"]["name"]
    with monitor.load().running() as load:
        load.wait_for(200)
        monitor.kubectl("delete", "pod", victim)
        monitor.kubectl("rollout", "status", DEPLOYMENT, "--timeout=60s")
        load.wait_for(200)
    nothing_lost(load.report)
    assert victim in load.report.pods
    assert len(monitor.pods()) == 2


@contextmanager
def available(monitor: System) -> Generator[list[int]]:
    """Every number of available replicas that the Deployment ever shows meanwhile."""
    seen: list[int] = []
    watch = monitor.kubectl.start(
        *("get", DEPLOYMENT, "--watch", "-o", "jsonpath={.status.availableReplicas}{'\\n'}"),
        stdout=subprocess.PIPE,
    )

    def read() -> None:
        assert watch.stdout is not None
        seen.extend(int(line.strip() or 0) for line in watch.stdout)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        watch.kill()
        watch.wait()
        reader.join()
        watch.stdout.close() if watch.stdout else None


def test_a_rolling_update_and_its_undoing_lose_nothing_and_keep_the_replicas(monitor: System) -> None:
    with available(monitor) as replicas, monitor.load().running() as load:
        load.wait_for(100)
        monitor.kubectl("set", "image", DEPLOYMENT, "monitor=my-monitor-app:v2")
        monitor.kubectl("rollout", "status", DEPLOYMENT, "--timeout=60s", timeout=70)
        updated = time.monotonic()
        load.wait_for(200)
        monitor.kubectl("rollout", "undo", DEPLOYMENT)
        monitor.kubectl("rollout", "status", DEPLOYMENT, "--timeout=60s", timeout=70)
        load.wait_for(200)
    nothing_lost(load.report)
    assert set(load.report.versions) == {"v1", "v2"}
    assert load.report.since(updated).answers[0].version == "v2"
    assert min(replicas) >= 2, replicas


def test_scaling_up_and_down_loses_nothing(monitor: System) -> None:
    with monitor.load().running() as load:
        load.wait_for(100)
        monitor.kubectl("scale", DEPLOYMENT, "--replicas=5")
        monitor.kubectl("rollout", "status", DEPLOYMENT, "--timeout=60s", timeout=70)
        load.wait_for(300)
        monitor.kubectl("scale", DEPLOYMENT, "--replicas=2")
        wait_until(lambda: len(monitor.kubectl.json("get", "pods", "-l", SELECTOR)["items"]) == 2)
        load.wait_for(200)
    nothing_lost(load.report)
    assert len(load.report.pods) == 5


def test_a_crashed_container_is_restarted_in_its_pod(monitor: System) -> None:
    status, headers, _ = monitor.request("/chaos/exit", "POST")
    assert status == 202
    crashed = headers["x-pod"]
    pod = monitor.kubectl.watch_until(
        f"pod/{crashed}",
        lambda p: (
            p["status"]["containerStatuses"][0]["restartCount"] == 1 and p["status"]["containerStatuses"][0]["ready"]
        ),
    )
    ended = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")
    assert exchange_until(monitor, crashed)


def exchange_until(monitor: System, pod: str) -> bool:
    """Whether the pod answers through the service again."""
    return bool(wait_until(lambda: monitor.request("/")[1]["x-pod"] == pod))


def test_a_frozen_pod_leaves_the_service_and_is_restarted_by_liveness(monitor: System) -> None:
    frozen = monitor.request("/chaos/freeze", "POST")[1]["x-pod"]
    began = time.monotonic()
    monitor.kubectl.watch_until(f"pod/{frozen}", lambda p: not p["status"]["containerStatuses"][0]["ready"], timeout=15)
    left = time.monotonic()
    with monitor.load().running() as load:
        load.wait_for(400)
        monitor.kubectl.watch_until(
            f"pod/{frozen}",
            lambda p: (
                p["status"]["containerStatuses"][0]["restartCount"] >= 1
                and p["status"]["containerStatuses"][0]["ready"]
            ),
            timeout=75,
        )
        load.wait_for(200)
    nothing_lost(load.report)
    # readiness: 2 failures x 1 s (+ 1 s timeout each); liveness: 3 failures x 10 s, then 30 s of grace
    assert left - began < 6
    assert time.monotonic() - began < 75
    events = monitor.kubectl.json("get", "events", "--field-selector", f"involvedObject.name={frozen}")["items"]
    assert any(e["reason"] == "Unhealthy" and "Readiness probe failed" in e["message"] for e in events)


def test_the_daemon_may_be_killed_under_load_and_adopts_what_runs(monitor: System) -> None:
    before = sorted(identity(p) for p in monitor.pods())
    with monitor.load().running() as load:
        load.wait_for(100)
        monitor.kill("daemon")
        load.wait_for(200)
        monitor.wait_for_api()
        assert sorted(identity(p) for p in monitor.pods()) == before
        monitor.kubectl("rollout", "restart", DEPLOYMENT)
        monitor.kubectl("rollout", "status", DEPLOYMENT, "--timeout=60s", timeout=70)
        load.wait_for(200)
    nothing_lost(load.report)
    assert not {uid for uid, _, _ in before} & {p["metadata"]["uid"] for p in monitor.pods()}


def test_services_answer_inside_the_cluster_by_name_while_the_daemon_is_away(monitor: System) -> None:
    pod = monitor.pods()[0]["metadata"]["name"]
    script = (
        "import time, urllib.request as u\n"
        "for _ in range(40):\n"
        "    u.urlopen('http://resilient-monitor.default.svc.cluster.local/', timeout=3).read()\n"
        "    time.sleep(0.05)\n"
        "print('fine')\n"
    )
    client = monitor.kubectl.start("exec", pod, "--", "python", "-c", script, stdout=subprocess.PIPE)
    # kubectl's own connection goes through the daemon, so it ends with it; what runs in the pod does not notice
    assert client.communicate(timeout=30)[0].strip() == "fine"


def test_a_probe_of_the_pod_itself_answers(monitor: System) -> None:
    forward = monitor.kubectl.start("port-forward", DEPLOYMENT, ":5000", stdout=subprocess.PIPE)
    try:
        assert forward.stdout is not None
        port = int(forward.stdout.readline().split("127.0.0.1:")[1].split(" ")[0])
        assert exchange("127.0.0.1", port, "/health")[0] == 200
        many = Load(port, rate=100)
        with many.running():
            many.wait_for(100)
        nothing_lost(many.report)
    finally:
        forward.kill()
        forward.communicate()
