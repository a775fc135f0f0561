"""What stands behind the question mark, and in Accept: selectors, versions, tokens of pages, forms of answers."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from urllib.parse import quote

from fuzz.objects import word
from fuzz.wire import Answer

_KEYS = (
    "app",
    "a",
    "kubernetes.io/x",
    "x/y/z",
    "",
    "-a",
    "a" * 64,
    "é",
    "metadata.name",
    "spec.nodeName",
    "status.phase",
)
_LABELS = ("web", "", "b", "a" * 64, "-", "1", "+1", "9" * 5000, "in", "é", "a b", "\x00", "%", "\\", "\\,", "(", "=")
_TERMS: tuple[Callable[[str, str, str], str], ...] = (
    lambda k, v, w: f"{k}={v}",
    lambda k, v, w: f"{k}=={v}",
    lambda k, v, w: f"{k}!={v}",
    lambda k, v, w: f"{k} in ({v},{w})",
    lambda k, v, w: f"{k} notin ({v})",
    lambda k, v, w: f"{k}>{v}",
    lambda k, v, w: f"{k} < {v}",
    lambda k, v, w: k,
    lambda k, v, w: f"!{k}",
    lambda k, v, w: f"{k} in ()",
    lambda k, v, w: f"{k}=({v})",
    lambda k, v, w: f"!{k}={v}",
)
_VERSIONS = ("", "0", "1", "2", "10", "-1", "x", "1.5", " 1", "01", "999999999", "9" * 25, "9" * 5000, "\uff11")
_LIMITS = ("0", "1", "2", "3", "-1", "x", "9" * 25, "1e3", "")
_FORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList", "APIGroupDiscoveryList", "X", "")
_GROUPS = ("meta.k8s.io", "apidiscovery.k8s.io", "apps", "")
_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor", "*/*", "x")


def selector(rng: random.Random) -> str:
    """A label or field selector: mostly by the grammar, at times cut, doubled or spaced."""
    many = rng.choice((1, 1, 2, 3, 300))
    terms = [rng.choice(_TERMS)(rng.choice(_KEYS), rng.choice(_LABELS), rng.choice(_LABELS)) for _ in range(many)]
    text = rng.choice((",", ",", ", ", ",,", ";")).join(terms)
    return text[: rng.randrange(len(text) + 1)] if rng.random() < 0.1 else text


def accept(rng: random.Random) -> str:
    """One to three media types with the parameters that select a form."""
    return ",".join(_media_type(rng) for _ in range(rng.choice((1, 1, 2, 3))))


def _media_type(rng: random.Random) -> str:
    found = rng.choice(_TYPES)
    parameters = (
        f"as={rng.choice(_FORMS)}",
        f"v={rng.choice(('v1', 'v1beta1', 'v2', 'v2beta1', ''))}",
        f"g={rng.choice(_GROUPS)}",
        f"q={rng.choice(('0', '1', '0.5', 'x', '-1'))}",
        "stream=watch",
        "profile=nopeer",
        "x",
    )
    picked = [
        p for p, chance in zip(parameters, (0.7, 0.7, 0.7, 0.1, 0.1, 0.1, 0.03), strict=True) if rng.random() < chance
    ]
    rng.shuffle(picked)
    return rng.choice((";", ";", "; ", ";;")).join([found, *picked])


def parameters(rng: random.Random) -> list[tuple[str, str]]:
    """Of a list or a watch, in combinations that are allowed and that are not."""
    found: list[tuple[str, str]] = []
    for name, make in _PARAMETERS:
        if rng.random() < 0.25:
            found.append((name, make(rng)))
    return found


def _flag(rng: random.Random) -> str:
    return rng.choice(("true", "1", "false", "T", "x", ""))


_PARAMETERS: tuple[tuple[str, Callable[[random.Random], str]], ...] = (
    ("labelSelector", selector),
    ("fieldSelector", selector),
    ("limit", lambda rng: rng.choice(_LIMITS)),
    ("continue", lambda rng: token(rng)),
    ("resourceVersion", lambda rng: rng.choice(_VERSIONS)),
    ("resourceVersionMatch", lambda rng: rng.choice(("Exact", "NotOlderThan", "x", ""))),
    ("includeObject", lambda rng: rng.choice(("None", "Metadata", "Object", "x"))),
    ("sendInitialEvents", _flag),
    ("allowWatchBookmarks", _flag),
    ("watch", _flag),
    ("pretty", _flag),
    ("timeoutSeconds", lambda rng: rng.choice(("0", "1", "-1", "x", "9" * 25))),
)


def token(rng: random.Random) -> str:
    """A `continue` token that nobody gave out."""
    start = rng.choice(
        ("/fz-1\0", "fz-1", "/fuzz/fz-1\0", "", "/", "/../x", "/\0", "/\ud800", "x" * 5000, 5, None, "/é")
    )
    revision = rng.choice((1, 5, 0, -1, -2, 2**63, 2**64, 10**30, 1.5, "1", None, True))
    content = {
        "v": rng.choice(("meta.k8s.io/v1", "meta.k8s.io/v1", "meta1.k8s.io/v1", "", 1)),
        "rv": revision,
        "start": start,
    }
    raw = json.dumps(rng.choice((content, content, content, content, [content], {}, None))).encode()
    if rng.random() < 0.1:
        raw = rng.choice((b"", b"{", b"\xff", raw[:-3], b"[" * 10_000, b"\0"))
    text = base64.urlsafe_b64encode(raw).decode()
    return rng.choice((text.rstrip("="), text, text[1:], text + word(rng)))


def next_page(path: str, rng: random.Random, make: Callable[[str], bytes]) -> Callable[[Answer], bytes]:
    """Asks for the page after an answered one, or for what a client that mixes things up would ask."""
    query = rng.choice(
        ("limit=1", "limit=3", "", "labelSelector=x%3Dy&limit=1", "resourceVersion=1", "limit=1&watch=1")
    )
    spoilt = rng.random() < 0.3

    def following(answer: Answer) -> bytes:
        try:
            given = json.loads(answer.body)["metadata"]["continue"]
        except (ValueError, KeyError, TypeError):
            given = token(rng)
        if spoilt:
            at = rng.randrange(len(given) + 1)
            given = given[:at] + rng.choice(("A", "", "x=", "%")) + given[at + 1 :]
        return make(f"{path}?{query}&continue={quote(given.encode('utf-8', 'surrogatepass'))}")

    return following
