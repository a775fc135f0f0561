"""resilient-monitor: a small service that shows how it is kept alive.

Every operational surface is an endpoint: what it is (`/version`), whether it lives (`/health`), whether it may get
traffic (`/ready`), what it measures (`/metrics`), and how to break it on purpose (`/chaos/...`).
"""

from __future__ import annotations

from flask import Flask

from monitor import api, chaos, metrics, page, probes
from monitor.identity import Identity


def create_app(identity: Identity | None = None) -> Flask:
    """The whole application; `identity` says which pod this is (from the environment by default)."""
    app = Flask(__name__)
    who = identity or Identity.from_environment()
    switch = chaos.Switch()
    # The order matters: a frozen process must not even be measured as one that answers.
    chaos.install(app, switch)
    metrics.install(app, who)
    probes.install(app, switch)
    page.install(app, who)
    api.install(app, who)
    return app
