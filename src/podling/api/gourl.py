"""URLs as Go's `url.ParseRequestURI` takes them, and what it says of those that it does not."""

from __future__ import annotations

import re
import urllib.parse
from typing import Final

from podling.api.gotext import quoted

_SCHEME: Final = re.compile("([a-zA-Z][a-zA-Z0-9+.-]*):")
_BAD_ESCAPE: Final = re.compile("%(?![0-9a-fA-F]{2}).{0,2}", re.DOTALL)
_BAD_HOST: Final = re.compile(r"""[^\w.~!$&'()*+,;=:\[\]<>"%-]""", re.ASCII)


def request_uri(text: str) -> urllib.parse.SplitResult:
    """Raises ValueError, with Go's words without what is before them (`parse "TEXT": `)."""
    if any(character < " " or character == "\x7f" for character in text):
        raise ValueError("net/url: invalid control character in URL")
    if not text:
        raise ValueError("empty url")
    if text.startswith(":"):
        raise ValueError("missing protocol scheme")
    scheme = found[1] if (found := _SCHEME.match(text)) else ""
    rest, _, query = text[len(scheme) + bool(scheme) :].partition("?")
    if not scheme and not rest.startswith("/"):
        raise ValueError("invalid URI for request")
    host = ""
    if scheme and rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path
        _check_host(host.rpartition("@")[2])
    if bad := _BAD_ESCAPE.search(rest):
        raise ValueError(f"invalid URL escape {quoted(bad[0])}")
    return urllib.parse.SplitResult(scheme.lower(), host, rest if rest.startswith("/") or not rest else "", query, "")


def _check_host(host: str) -> None:
    port = host.rpartition("]")[2] if host.startswith("[") else host[host.find(":") :] if ":" in host else ""
    if host.startswith("[") and "]" not in host:
        raise ValueError("missing ']' in host")
    if port and not re.fullmatch(":[0-9]*", port):
        raise ValueError(f"invalid port {quoted(port)} after host")
    if bad := _BAD_HOST.search(host):
        raise ValueError(f"invalid character {quoted(bad[0])} in host name")
