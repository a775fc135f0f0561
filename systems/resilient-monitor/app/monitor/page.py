"""The page a person looks at. A script's or curl's plain request gets one line of text instead."""

from __future__ import annotations

from flask import Flask, Response, render_template, request

from monitor.identity import Identity


def install(app: Flask, who: Identity) -> None:
    @app.get("/")
    def index() -> Response:
        if request.accept_mimetypes.accept_html and "text/html" in request.headers.get("Accept", ""):
            return Response(render_template("index.html", **who.facts()), mimetype="text/html")
        return Response(f"{who.pod} {who.version}\n", mimetype="text/plain")
