"""What Prometheus reads: requests, their time, the process, and which version runs here."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector

from monitor.identity import Identity


def install(app: Flask, who: Identity) -> None:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    requests = Counter(
        "http_requests", "Requests answered.", ["method", "path", "status"], registry=registry
    )
    seconds = Histogram(
        "http_request_duration_seconds", "Time to answer.", ["method", "path"], registry=registry
    )
    Gauge("monitor_info", "Which version runs in which pod.", ["version", "pod"], registry=registry).labels(
        who.version, who.pod
    ).set(1)

    @app.before_request
    def start_clock() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        # The rule, not the path, is the label: otherwise any stranger could make as many series as they like.
        path = request.url_rule.rule if request.url_rule else "(unknown)"
        requests.labels(request.method, path, response.status_code).inc()
        if "started" in g:
            seconds.labels(request.method, path).observe(time.perf_counter() - g.started)
        response.headers["X-Pod"] = who.pod
        response.headers["X-Version"] = who.version
        return response

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
