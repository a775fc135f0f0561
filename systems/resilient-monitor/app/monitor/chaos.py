"""Ways to break this process on purpose, so that its healing can be watched and tested.

POST /chaos/freeze    every request from now on hangs, as in a deadlock: liveness must kill the container
POST /chaos/exit      the process ends at once with exit code 3: the restart policy must start it again
POST /chaos/unready   readiness fails: the pod must leave the load balancer, but live
POST /chaos/ready     and come back
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

from flask import Flask, Response

GUNICORN_HALTS = 3
"""A worker's exit code on which gunicorn's master gives up as well, instead of starting another worker."""


@dataclass
class Switch:
    """What has been broken so far."""

    unready: bool = False
    frozen: threading.Event = field(default_factory=threading.Event)
    never: threading.Event = field(default_factory=threading.Event)


def install(app: Flask, switch: Switch) -> None:
    @app.before_request
    def hang_when_frozen() -> None:
        if switch.frozen.is_set():
            switch.never.wait()

    @app.post("/chaos/freeze")
    def freeze() -> Response:
        switch.frozen.set()
        return Response("frozen\n", status=202, mimetype="text/plain")

    @app.post("/chaos/exit")
    def exit_now() -> Response:
        response = Response("exiting\n", status=202, mimetype="text/plain")
        response.call_on_close(lambda: os._exit(GUNICORN_HALTS))
        return response

    @app.post("/chaos/unready")
    def unready() -> Response:
        switch.unready = True
        return Response("not ready any more\n", status=202, mimetype="text/plain")

    @app.post("/chaos/ready")
    def ready_again() -> Response:
        switch.unready = False
        return Response("ready again\n", status=202, mimetype="text/plain")
