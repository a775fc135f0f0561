"""kubernetes_asyncio, a Python client."""

from __future__ import annotations

import pytest

from support.clients import Client, Cluster, python_client, stories

SCRIPT = "asynchronous.py"


@pytest.fixture(scope="module")
def asynchronous() -> Client:
    return python_client("kubernetes_asyncio==36.1.0")


@pytest.mark.parametrize("story", stories(SCRIPT))
def test_kubernetes_asyncio(story: str, asynchronous: Client, cluster: Cluster, namespace: str) -> None:
    cluster.tell(asynchronous, SCRIPT, story, namespace)
