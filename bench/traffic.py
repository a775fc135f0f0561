"""Requests through a Service, and how many are lost while what answers them is disturbed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from bench.machine import Settings, median, table
from support.people import myself
from support.system import DEPLOYMENT, System, running_monitor

CLIENT = """
import http.client, sys, time
host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
count, end = 0, time.monotonic() + seconds
while time.monotonic() < end:
    connection = http.client.HTTPConnection(host, port)
    connection.request("GET", "/version")
    connection.getresponse().read()
    connection.close()
    count += 1
print(count / seconds)
"""
RATE = 200


def run(settings: Settings) -> None:
    with myself() as person, running_monitor(person) as monitor:
        _throughput(monitor, settings)
        print()
        rows = [_disturbed(monitor, what, act) for what, act in DISTURBANCES.items()]
        table((f"disturbance, at {RATE} requests/s, each a new connection", "sent", "lost", "slowest"), rows)


def _throughput(monitor: System, settings: Settings) -> None:
    """New connections one after the other, from one pod: to a pod's own address, and to the service's."""
    pods = monitor.pods()
    service = monitor.kubectl.json("get", "service", "resilient-monitor")["spec"]
    targets = {
        "pod": (pods[1]["status"]["podIP"], 5000),
        "service": (service["clusterIP"], service["ports"][0]["port"]),
    }
    rates: dict[str, list[float]] = {name: [] for name in targets}
    for _ in range(settings.rounds):
        for name, (host, port) in targets.items():
            arguments = ("python", "-c", CLIENT, host, str(port), str(settings.seconds))
            rates[name].append(float(monitor.kubectl("exec", pods[0]["metadata"]["name"], "--", *arguments)))
    direct, through = median(rates["pod"]), median(rates["service"])
    table(
        ("requests/s, one client", "podling", "target"),
        (
            ("to the pod's address", f"{direct:.0f}", ""),
            ("to the service's address", f"{through:.0f} ({through / direct:.2f}x)", "0.95x"),
        ),
    )


def _disturbed(monitor: System, what: str, act: Callable[[System], None]) -> tuple[str, str, str, str]:
    with monitor.load(rate=RATE).running() as load:
        load.wait_for(RATE)
        act(monitor)
        load.wait_for(RATE)
    report = load.report
    slowest = max(a.seconds for a in report.answers) * 1000
    return what, str(len(report.answers) + len(report.lost)), str(len(report.lost)), f"{slowest:.0f} ms"


def _rolled_out(monitor: System) -> None:
    monitor.kubectl("rollout", "status", DEPLOYMENT, "--timeout=60s", timeout=70)


def _update(monitor: System) -> None:
    monitor.kubectl("set", "image", DEPLOYMENT, "monitor=my-monitor-app:v2")
    _rolled_out(monitor)
    monitor.kubectl("rollout", "undo", DEPLOYMENT)
    _rolled_out(monitor)


def _delete(monitor: System) -> None:
    monitor.kubectl("delete", "pod", monitor.pods()[0]["metadata"]["name"])
    _rolled_out(monitor)


def _scale(monitor: System) -> None:
    for replicas in (5, 2):
        monitor.kubectl("scale", DEPLOYMENT, f"--replicas={replicas}")
        _rolled_out(monitor)
    time.sleep(1)


def _kill(name: str) -> Callable[[System], None]:
    def kill(monitor: System) -> None:
        os.kill(monitor.process(name), 9)
        time.sleep(0.5)
        monitor.wait_for_api()

    return kill


DISTURBANCES: dict[str, Callable[[System], None]] = {
    "none": lambda _: time.sleep(1),
    "a pod deleted": _delete,
    "rolling update and undo": _update,
    "scaled from 2 to 5 and back": _scale,
    "daemon killed (-9)": _kill("daemon"),
    "proxy killed (-9)": _kill("proxy"),
}
