"""kopf, the framework of operators in Python."""

from __future__ import annotations

import pytest

from support.clients import Client, Cluster, python_client, stories

SCRIPT = "operators.py"


@pytest.fixture(scope="module")
def operators() -> Client:
    return python_client("kopf==1.45.2", "kubernetes==37.0.2", "cryptography==50.*")


@pytest.mark.parametrize("story", stories(SCRIPT))
def test_kopf(story: str, operators: Client, cluster: Cluster, namespace: str) -> None:
    cluster.tell(operators, SCRIPT, story, namespace)
