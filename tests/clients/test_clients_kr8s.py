"""kr8s, a Python client."""

from __future__ import annotations

import pytest

from support.clients import Client, Cluster, python_client, stories

SCRIPT = "friendly.py"


@pytest.fixture(scope="module")
def friendly() -> Client:
    return python_client("kr8s==0.20.15")


@pytest.mark.parametrize("story", stories(SCRIPT))
def test_kr8s(story: str, friendly: Client, cluster: Cluster, namespace: str) -> None:
    cluster.tell(friendly, SCRIPT, story, namespace)
