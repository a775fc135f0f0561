"""One cluster for all clients, of whoever runs the tests, and a fresh namespace for each test."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.clients import Cluster
from support.kubectl import Kubectl
from support.people import myself


@pytest.fixture(scope="session")
def cluster() -> Generator[Cluster]:
    name = f"clients-{os.getpid()}"
    with myself() as person:
        try:
            person.podling("up", "--empty", "--name", name)
            yield Cluster(person, name, Kubectl(person, f"podling-{name}"))
        finally:
            person.podling("down", "--name", name)


@pytest.fixture(scope="session")
def numbers() -> Generator[int]:
    return (n for n in itertools.count(1))


@pytest.fixture
def namespace(cluster: Cluster, numbers: Generator[int]) -> Generator[str]:
    """It goes away in the background: the next test does not wait for it."""
    name = f"story-{next(numbers)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
