"""The two questions that Kubernetes asks: is it alive, and may it get traffic?"""

from __future__ import annotations

from flask import Flask, Response

from monitor.chaos import Switch


def install(app: Flask, switch: Switch) -> None:
    @app.get("/health")
    def health() -> Response:
        return Response("ok\n", mimetype="text/plain")

    @app.get("/ready")
    def ready() -> Response:
        if switch.unready:
            return Response("taken out of service by /chaos/unready\n", status=503, mimetype="text/plain")
        return Response("ready\n", mimetype="text/plain")
