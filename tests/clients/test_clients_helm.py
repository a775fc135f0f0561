"""Helm 4, through its Python SDK: the real Go code without the binary."""

from __future__ import annotations

import pytest

from support.clients import Client, Cluster, python_client, stories

SCRIPT = "charts.py"


@pytest.fixture(scope="module")
def charts() -> Client:
    return python_client("helm-python-sdk==0.2.2", "kubernetes==37.0.2")


@pytest.mark.parametrize("story", stories(SCRIPT))
def test_helm(story: str, charts: Client, cluster: Cluster, namespace: str) -> None:
    cluster.tell(charts, SCRIPT, story, namespace)
