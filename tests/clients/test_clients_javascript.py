"""@kubernetes/client-node, the official JavaScript client."""

from __future__ import annotations

import pytest

from support.clients import Client, Cluster, javascript_client, stories

SCRIPT = "javascript.mjs"


@pytest.fixture(scope="module")
def javascript() -> Client:
    return javascript_client("@kubernetes/client-node@1.4.0")


@pytest.mark.parametrize("story", stories(SCRIPT))
def test_javascript(story: str, javascript: Client, cluster: Cluster, namespace: str) -> None:
    cluster.tell(javascript, SCRIPT, story, namespace)
