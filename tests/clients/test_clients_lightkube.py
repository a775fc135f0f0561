"""lightkube, a Python client."""

from __future__ import annotations

import pytest

from support.clients import Client, Cluster, python_client, stories

SCRIPT = "light.py"


@pytest.fixture(scope="module")
def light() -> Client:
    return python_client("lightkube==1.0.1")


@pytest.mark.parametrize("story", stories(SCRIPT))
def test_lightkube(story: str, light: Client, cluster: Cluster, namespace: str) -> None:
    cluster.tell(light, SCRIPT, story, namespace)
