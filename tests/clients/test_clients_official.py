"""The official Python client."""

from __future__ import annotations

import pytest

from support.clients import Client, Cluster, python_client, stories

SCRIPT = "official.py"


@pytest.fixture(scope="module")
def official() -> Client:
    return python_client("kubernetes==37.0.2")


@pytest.mark.parametrize("story", stories(SCRIPT))
def test_official(story: str, official: Client, cluster: Cluster, namespace: str) -> None:
    cluster.tell(official, SCRIPT, story, namespace)
