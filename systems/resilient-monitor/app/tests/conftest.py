from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from monitor import create_app
from monitor.identity import Identity


@pytest.fixture
def client() -> FlaskClient:
    return create_app(Identity(pod="pod-a", node="node-1", version="v7")).test_client()
