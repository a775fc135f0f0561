"""The cluster that is fuzzed, and the watch over it: its process, its memory, its log."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fuzz.wire import Place
from support.kubectl import Kubectl
from support.people import Person, myself

NAME = "fuzz"
POD = "target"
_NOWHERE = "http://127.0.0.1:9"
"""In place of a proxy to registries: what the fuzzer writes must not become traffic."""
_PROJECT = {
    "Dockerfile": "FROM python:3-slim\n",
    "k8s/target.yaml": f"""\
apiVersion: v1
kind: Pod
metadata: {{name: {POD}}}
spec:
  containers: [{{name: c, image: target, command: [python3, -m, http.server, "80"], stdin: true}}]
""",
}
_BAD = re.compile(rb"Traceback|^\S* *(?:ERROR|CRITICAL)", re.MULTILINE)


@dataclass
class Ground:
    """A running cluster of our own."""

    person: Person
    kubectl: Kubectl
    state: Path
    place: Place
    pid: int

    def memory(self) -> float:
        """MiB that the daemon holds now."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        return int(found.group(1)) / 1024 if found else 0.0

    def alive(self) -> bool:
        """Whether the same daemon still runs."""
        return self.daemon(self.person) == self.pid

    @staticmethod
    def daemon(person: Person) -> int:
        facts = person.podling_json("status", "--name", NAME)
        return next((p["pid"] for p in facts["processes"] if p["name"] == "daemon"), 0)

    def log(self) -> bytes:
        return (self.state / "logs" / "daemon.log").read_bytes()

    def complaints(self) -> list[str]:
        """What in the daemon's log should not be there: tracebacks and errors, each with what follows it."""
        log = self.log()
        return [
            log[m.start() - 200 if m.start() > 200 else 0 : m.start() + 3000].decode(errors="replace")
            for m in _BAD.finditer(log)
        ]


@contextmanager
def ground() -> Generator[Ground]:
    with myself() as person:
        person = replace(
            person, extra=dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), _NOWHERE)
        )
        project = person.home / "project"
        for path, text in _PROJECT.items():
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text)
        try:
            person.podling("up", project, "--name", NAME, timeout=300)
            yield _found(person)
        finally:
            person.podling("down", "--name", NAME, check=False)


def _found(person: Person) -> Ground:
    facts: Any = person.podling_json("status", "--name", NAME)
    state = Path(facts["state"])
    place = Place(int(facts["server"].rpartition(":")[2]), state / "pki")
    kubectl = Kubectl(person, f"podling-{NAME}")
    for space in ("fuzz", "fuzz-2"):
        kubectl("create", "namespace", space)
    return Ground(person, kubectl, state, place, Ground.daemon(person))


def pretty(value: object) -> str:
    return json.dumps(value, indent=1, default=str)
