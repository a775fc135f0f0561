"""From `podling up` to the first answer, and what podling itself takes while nothing happens."""

from __future__ import annotations

import subprocess
import threading
import time
import urllib.request
from contextlib import suppress

from bench.machine import NAME, Settings, median, milliseconds, status, table
from support.people import Person, myself
from support.system import MONITOR

SETTLED = 5.0
"""Seconds after the start at which a cluster counts as idle."""


def run(settings: Settings) -> None:
    with myself() as person:
        project = person.copy(MONITOR, "monitor")
        began = time.monotonic()
        person.podling("up", project, "--name", NAME, timeout=300)
        first = time.monotonic() - began
        person.podling("down", "--name", NAME)
        ready, serving = zip(*[_once(person, project) for _ in range(settings.rounds)], strict=True)
        table(
            ("start", "podling", "target", "real Kubernetes"),
            (
                ("first `podling up` of the monitor, image not built", f"{first:.1f} s", "", ""),
                ("`podling up` -> API ready", milliseconds(median(ready)), "1 s", "3.45 s"),
                ("`podling up` -> first answer of a pod", milliseconds(median(serving)), "2 s", ""),
            ),
        )
        _memory(person)


def _once(person: Person, project: object) -> tuple[float, float]:
    """Seconds to the API's first answer (by the word of `podling up`) and to that of the service."""
    began = time.monotonic()
    up = person.start(person.bin / "podling", "up", str(project), "--name", NAME, stderr=subprocess.PIPE)
    try:
        times: dict[str, float] = {}
        reader = threading.Thread(target=_read, args=(up, times, began))
        reader.start()
        serving = _first_answer(began)
        reader.join()
        return times["API"], serving
    finally:
        up.wait()
        up.stderr.close() if up.stderr else None
        person.podling("down", "--name", NAME)


def _read(up: subprocess.Popen[str], times: dict[str, float], began: float) -> None:
    assert up.stderr is not None
    for line in up.stderr:
        if "Starting cluster" in line:
            times["API"] = time.monotonic() - began


def _first_answer(began: float) -> float:
    """Asks the ports that a LoadBalancer's port 80 may have on the host."""
    while time.monotonic() < began + 60:
        for port in (80, 8080):
            url = f"http://127.0.0.1:{port}/version"
            with suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
                if answer.headers["X-Pod"]:
                    return time.monotonic() - began
        time.sleep(0.005)
    raise TimeoutError("the service does not answer")


def _memory(person: Person) -> None:
    person.podling("up", "--empty", "--name", NAME)
    try:
        time.sleep(SETTLED)
        processes = status(person)["processes"]
    finally:
        person.podling("down", "--name", NAME)
    total = sum(p["memory"] for p in processes)
    rows = [(p["name"], f"{p['memory'] / 2**20:.1f} MiB", "", "") for p in processes]
    rows.append(("all", f"{total / 2**20:.1f} MiB", "120 MB", "763 MiB"))
    print()
    table(("idle memory (PSS)", "podling", "target", "real Kubernetes"), rows)
