"""`/healthz`, `/livez`, `/readyz` (k8s.io/apiserver/pkg/server/healthz). Whoever answers is well: the one check is
`ping`."""

from __future__ import annotations

from typing import Final

from podling.api.http import Request
from podling.api.requests import Query, repeated

ROOTS: Final = ("/healthz", "/livez", "/readyz")
_PING: Final = "ping"
_TEXT: Final = "text/plain; charset=utf-8"
_NO_SNIFFING: Final = (("X-Content-Type-Options", "nosniff"),)


def respond(request: Request, path: str) -> None:
    """Answers for all checks, or for the one that the path names."""
    endpoint, slash, single = path[1:].partition("/")
    if f"/{endpoint}" not in ROOTS or (slash and single != _PING):
        no_page(request)
    elif slash or "verbose" not in Query.parse(request.query):
        request.respond(200, b"ok", _TEXT, _NO_SNIFFING)
    else:
        report = _report(repeated(request.query, "exclude")) + f"{endpoint} check passed\n"
        request.respond(200, report.encode(), _TEXT, _NO_SNIFFING)


def no_page(request: Request) -> None:
    """The answer where no part of the server is at home."""
    request.respond(404, b"404 page not found\n", _TEXT, _NO_SNIFFING)


def _report(excluded: list[str]) -> str:
    line = f"[+]{_PING} excluded: ok\n" if _PING in excluded else f"[+]{_PING} ok\n"
    unknown = sorted({*excluded} - {_PING})
    if unknown:
        shown = ",".join(f'"{name}"' for name in unknown)
        line += f"warn: some health checks cannot be excluded: no matches for {shown}\n"
    return line
