"""A system that is up: what it answers, and what the tests do to it."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.kubectl import Kubectl
from support.load import Load
from support.people import REPOSITORY, Person

MONITOR = REPOSITORY / "systems" / "resilient-monitor"
DEPLOYMENT = "deployment/resilient-monitor"
SELECTOR = "app.kubernetes.io/name=resilient-monitor"


@dataclass
class System:
    """A project that is up in a cluster of one person."""

    person: Person
    name: str
    project: Path
    kubectl: Kubectl

    def status(self) -> Any:
        return self.person.podling_json("status", "--name", self.name)

    @property
    def url(self) -> str:
        found: str = self.status()["urls"][0]["url"]
        return found

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80

    def load(self, **options: Any) -> Load:
        return Load(self.port, **options)

    def request(self, path: str, method: str = "GET", timeout: float = 10) -> tuple[int, dict[str, str], str]:
        """Of the service: status, headers (lower case), text."""
        return exchange("127.0.0.1", self.port, path, method, timeout)

    def process(self, name: str) -> int:
        """The process id of one of podling's own processes, as this machine counts them."""
        found: int = next(p["pid"] for p in self.status()["processes"] if p["name"] == name)
        return found

    def kill(self, name: str) -> None:
        os.kill(self.process(name), signal.SIGKILL)

    def pods(self) -> list[Any]:
        """Those of the monitor that are not on their way out."""
        items = self.kubectl.json("get", "pods", "-l", SELECTOR)["items"]
        return [p for p in items if "deletionTimestamp" not in p["metadata"]]

    def wait_for_api(self, timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while self.kubectl.run("get", "--raw", "/readyz", check=False).returncode != 0:
            assert time.monotonic() < deadline, "the API does not come back"


def exchange(
    host: str, port: int, path: str, method: str = "GET", timeout: float = 10
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


def identity(pod: Any) -> tuple[str, str, int]:
    """What stays the same as long as nobody restarts it."""
    status = pod["status"]["containerStatuses"][0]
    return pod["metadata"]["uid"], status["containerID"], status["restartCount"]


@contextmanager
def running_monitor(person: Person) -> Generator[System]:
    """Without the pause before SIGTERM that real clusters need: podling must lose nothing without it."""
    project = person.copy(MONITOR, "monitor")
    manifest = project / "k8s" / "deployment.yaml"
    manifest.write_text(_without_pre_stop(manifest.read_text()))
    name = f"e2e-{os.getpid()}"
    try:
        person.podling("up", project, "--name", name, timeout=300)
        person.podling(
            "build", "-q", "-t", "my-monitor-app:v2", "--build-arg", "VERSION=v2", project / "app", timeout=300
        )
        yield System(person, name, project, Kubectl(person, f"podling-{name}"))
    finally:
        person.podling("down", "--name", name, timeout=60)


def _without_pre_stop(text: str) -> str:
    kept: list[str] = []
    skipping = False
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() == "lifecycle:":
            skipping, depth = True, indent
            continue
        if skipping and indent > depth:
            continue
        skipping = False
        kept.append(line)
    assert len(kept) < len(text.splitlines()), "the manifest has no preStop hook any more"
    return "\n".join(kept) + "\n"


def wait_until(condition: Any, timeout: float = 30, what: str = "") -> Any:
    """Asks again until `condition()` is true; for what nobody can wait for by a watch or a descriptor."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, what or "it did not come true in time"
        time.sleep(0.05)
