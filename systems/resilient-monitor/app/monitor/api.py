"""The machine-readable side of the page."""

from __future__ import annotations

from flask import Flask, Response, jsonify

from monitor.identity import Identity


def install(app: Flask, who: Identity) -> None:
    @app.get("/version")
    def version() -> Response:
        return jsonify(version=who.version)

    @app.get("/api/status")
    def status() -> Response:
        response = jsonify(who.facts())
        response.headers["Cache-Control"] = "no-store"
        return response
