"""The namespace `shop`, to be admitted to."""

from __future__ import annotations

import pytest
from admitting import Cluster


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.add("namespaces", {"metadata": {"name": "shop"}})
    return cluster
