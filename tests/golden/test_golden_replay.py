"""What a real Kubernetes answered, step by step, podling answers too. The recordings lie beside the repository."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from support.people import REPOSITORY, Person, myself

ORACLE = REPOSITORY.parent / "shared" / "oracle"
NAME = "golden"

pytestmark = pytest.mark.skipif(not ORACLE.is_dir(), reason=f"no recordings at {ORACLE}")


@pytest.fixture(scope="module")
def person() -> Generator[Person]:
    with myself() as person:
        person.podling("up", "--empty", "--no-addons", "--name", NAME)
        try:
            yield person
        finally:
            person.podling("down", "--name", NAME)


def share_alike(person: Person, tmp_path: Path, area: str, needs: str) -> tuple[float, str]:
    """The share of steps of an area that come out identical, and what the replayer printed."""
    outcome = tmp_path / "outcome.json"
    command = [
        *(sys.executable, ORACLE / "replay.py", "--kubeconfig", person.home / "kubeconfig"),
        *("--var", f"node=podling-{NAME}", "-j", "8", "--area", area, "--needs", needs),
        *("--json", outcome, ORACLE / "train"),
    ]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert outcome.exists(), done.stderr
    identical, steps, *_ = json.loads(outcome.read_text())["areas"][area]
    return identical / steps, done.stdout


# The least share that must come out identical: a little below what does, because nothing may get worse unnoticed.
# What differs, and why, is listed in docs/compatibility.md.


@pytest.mark.parametrize(
    ("area", "least"),
    [
        pytest.param("A", 0.95, id="defaulting"),
        pytest.param("B", 0.98, id="validation"),
        pytest.param("C", 0.98, id="semantics"),
        pytest.param("D", 0.99, id="patching"),
        pytest.param("E", 0.97, id="custom-resources"),
        pytest.param("F", 0.98, id="access"),
    ],
)
def test_the_api_answers_as_recorded(person: Person, tmp_path: Path, area: str, least: float) -> None:
    share, printed = share_alike(person, tmp_path, area, "api")
    print(f"area {area}: {share:.1%}")
    assert share >= least, printed


@pytest.mark.slow
def test_controllers_do_as_recorded(person: Person, tmp_path: Path) -> None:
    share, printed = share_alike(person, tmp_path, "G", "api,controllers")
    print(f"area G: {share:.1%}")
    assert share >= 0.98, printed
