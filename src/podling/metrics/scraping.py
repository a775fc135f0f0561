"""Asks pods for their metrics, by the annotations that Prometheus' own examples use: `prometheus.io/scrape`, `port`,
`path` and `scheme`."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import httptools

from podling.api import meta
from podling.api.relay import Whole, any_certificate, ask
from podling.store.types import Object

PREFIX: Final = "prometheus.io/"
PATIENCE: Final = 3.0
"""Seconds for one whole answer."""
LARGEST: Final = 4 << 20
"""Bytes of one answer."""
_ACCEPT: Final = "text/plain;version=0.0.4,*/*;q=0.1"


class ScrapeFailed(Exception):
    """No usable answer; the text says why."""


class Target(NamedTuple):
    host: str
    port: int
    path: str
    tls: bool


def target_of(pod: Object) -> Target | None:
    """Where a running pod wants to be asked; `None` for one that does not."""
    annotations = meta.annotations(pod)
    ip: str = meta.status(pod).get("podIP") or ""
    if annotations.get(f"{PREFIX}scrape") != "true" or not ip or meta.status(pod).get("phase") != "Running":
        return None
    port = _port(annotations.get(f"{PREFIX}port", ""), pod)
    if port is None:
        return None
    path = annotations.get(f"{PREFIX}path") or "/metrics"
    if not path.startswith("/"):
        path = f"/{path}"
    if not path.isascii() or any(c.isspace() or not c.isprintable() for c in path):
        return None
    return Target(ip, port, path, annotations.get(f"{PREFIX}scheme", "").lower() == "https")


def _port(text: str, pod: Object) -> int | None:
    """The annotated port; without one the first that a container declares."""
    if text:
        return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16 else None
    declared = (p for c in meta.items(pod, "spec", "containers") for p in meta.items(c, "ports"))
    return next((p["containerPort"] for p in declared), None)


async def scrape(target: Target) -> str:
    """The exposition. Raises `ScrapeFailed`."""
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await _get(target)
    except TimeoutError:
        raise ScrapeFailed("no answer in time") from None
    except (OSError, httptools.HttpParserError) as error:
        raise ScrapeFailed(str(error)) from error
    if answer.status != 200:
        raise ScrapeFailed(f"HTTP status {answer.status}")
    return answer.body.decode(errors="replace")


async def _get(target: Target) -> Whole:
    host = f"[{target.host}]" if ":" in target.host else target.host
    head = f"GET {target.path} HTTP/1.1\r\nHost: {host}:{target.port}\r\nAccept: {_ACCEPT}\r\n"
    request = f"{head}User-Agent: podling\r\nConnection: close\r\n\r\n".encode()
    context = any_certificate() if target.tls else None
    return await ask(target.host, target.port, request, largest=LARGEST, context=context)
