"""Persons and their clusters. Everything in this directory runs as root and, where the tests are root, as an
unprivileged user as well."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack

import pytest

from support.people import KINDS, Person, myself, unprivileged
from support.system import System, running_monitor


@pytest.fixture(scope="session")
def persons() -> Generator[dict[str, Person]]:
    with ExitStack() as stack:
        found: dict[str, Person] = {}
        for kind in KINDS:
            other = kind == "rootless" and os.getuid() == 0
            found[kind] = stack.enter_context(unprivileged() if other else myself())
        yield found


@pytest.fixture(scope="session", params=KINDS)
def person(request: pytest.FixtureRequest, persons: dict[str, Person]) -> Person:
    return persons[request.param]


@pytest.fixture(scope="module")
def monitor(person: Person) -> Generator[System]:
    """The resilient monitor, up, with a second version built."""
    with running_monitor(person) as system:
        yield system
