"""How long one pod takes."""

from __future__ import annotations

import time

from bench.machine import Settings, cluster, median, milliseconds, table
from bench.objects import PODS, SPEC, build_instant, client, create, is_ready, until, wait_for_service_account
from podling.cli.api import Api


def run(settings: Settings) -> None:
    with cluster() as (person, facts):
        build_instant(person)
        api = client(person, facts)
        wait_for_service_account(api)
        singles = [_single(api, number) for number in range(10 * settings.rounds)]
    ready, gone = zip(*singles, strict=True)
    table(
        ("pods", "podling", "target", "real Kubernetes"),
        (
            ("create -> Ready, p50", milliseconds(median(ready)), "100 ms", "530 ms"),
            ("delete -> gone, p50 (it ends at SIGTERM)", milliseconds(median(gone)), "", "1470 ms"),
        ),
    )


def _single(api: Api, number: int) -> tuple[float, float]:
    name = f"single-{number}"
    began = time.monotonic()
    create(api, PODS, "Pod", "v1", name, spec=SPEC)
    until(api, PODS, name, is_ready)
    ready = time.monotonic() - began
    began = time.monotonic()
    watch = api.watch(PODS, timeout=30, fieldSelector=f"metadata.name={name}")
    next(watch)
    api.request("DELETE", f"{PODS}/{name}")
    for event in watch:
        if event["type"] == "DELETED":
            break
    return ready, time.monotonic() - began
