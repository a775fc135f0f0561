"""Cases below the API: broken and ambiguous framing, endless heads, slow and half-closed connections."""

from __future__ import annotations

import random

from fuzz.case import Case, talk, talk_plainly
from fuzz.objects import damage
from fuzz.wire import request

GOOD = request("GET", "/api/v1/namespaces/fuzz/pods", b"", ())
MAPS = "/api/v1/namespaces/fuzz/configmaps"
POST = request("POST", MAPS, b'{"metadata":{"generateName":"r"}}', ())
_HOST = b"Host: 127.0.0.1"
_HIDDEN = b"DELETE /api/v1/namespaces/fuzz/configmaps/never HTTP/1.1\r\nHost: x\r\n\r\n"
"""What a smuggler would have the server take for a request of its own."""
_FRAMINGS = (
    *(b"Content-Length: -1", b"Content-Length: 9999999999", b"Content-Length: 5\r\nContent-Length: 6"),
    *(b"Content-Length: 5, 5", b"Content-Length: +5", b"Content-Length: 0x5", b"Content-Length: 5 5"),
    *(b"Content-Length: 99999999999999999999999999", b"Content-Length:", b"Content-Length: 5\x0b"),
    *(b"Transfer-Encoding: x", b"Transfer-Encoding: chunked\r\nContent-Length: 3", b"Transfer-Encoding: chunked, x"),
    *(b"Transfer-Encoding : chunked", b"Transfer-Encoding:\tchunked", b" Transfer-Encoding: chunked"),
    *(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"Transfer-Encoding: xchunked"),
    *(
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding: identity, chunked",
        b"X: y\r\n\tTransfer-Encoding: chunked",
    ),
    *(b"Connection: close, Content-Length", b"Connection: keep-alive\r\nConnection: close", b"Expect: 200-ok"),
    *(
        b"Host: other",
        b": empty",
        b"no colon",
        b"N\0UL: x",
        b"Upgrade: websocket\r\nConnection: Upgrade",
        b"\xff\xfe: x",
    ),
)
_LINES = (
    *(
        b"GET http://elsewhere/api HTTP/1.1",
        b"GET /api HTTP/1.0",
        b"GET /api HTTP/2.0",
        b"GET /api",
        b"GET  /api HTTP/1.1",
    ),
    *(
        b"GET /a b HTTP/1.1",
        b"get /api HTTP/1.1",
        b"GET\t/api\tHTTP/1.1",
        b"PRI * HTTP/2.0\r\n\r\nSM",
        b"OPTIONS * HTTP/1.1",
    ),
    *(
        b"CONNECT x:1 HTTP/1.1",
        b"GET /api HTTP/1.1 ",
        b"G\0T /api HTTP/1.1",
        b"GET //api HTTP/1.1",
        b"GET api HTTP/1.1",
    ),
    *(
        b"GET /api#x HTTP/1.1",
        b"GET ?x HTTP/1.1",
        b"GET /\xff\xfe HTTP/1.1",
        b"GET /api HTTP/9999999999.1",
        b"\r\n\r\nGET /api HTTP/1.1",
    ),
)


def raw(number: int, rng: random.Random) -> Case:
    """What no HTTP library sends."""
    case = Case(number, "raw", converse=talk)
    make = rng.choice((_noise, _damaged, _pipelined, _chunks, _framing, _line, _long, _plain))
    if make is _plain:
        case.converse = talk_plainly
    case.parts = [(0, make(rng))]
    return case


def slow(number: int, rng: random.Random) -> Case:
    """In small pieces, cut off at some point, then half-closed."""
    case = Case(number, "slow", converse=talk)
    whole = rng.choice((POST, chunked(POST, rng), GOOD * 3, POST + GOOD))
    data = whole[: rng.randrange(len(whole))] if rng.random() < 0.5 else whole
    step = rng.choice((5, 20, 60))
    case.parts = [(0.01, data[at : at + step]) for at in range(0, len(data), step)]
    return case


def chunked(data: bytes, rng: random.Random) -> bytes:
    """The same request with its body in chunks: right ones, with extensions and trailers now and then."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    found = [*lines, b"Transfer-Encoding: " + rng.choice((b"chunked", b"Chunked")), b"", b""]
    pieces = [b"\r\n".join(found)]
    size = rng.choice((1 + len(body) // 40, 1 + len(body) // 3, len(body) or 1))
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        extension = rng.choice((b"", b"", b"", b";a=b", b';a="b;c"'))
        pieces += [rng.choice((b"%x", b"%X", b"00%x")) % len(piece), extension, b"\r\n", piece, b"\r\n"]
    return b"".join([*pieces, b"0\r\n", rng.choice((b"", b"", b"Trailer: x\r\n")), b"\r\n"])


def _noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((1, 20, 3000)))


def _plain(rng: random.Random) -> bytes:
    return rng.choice((GOOD, rng.randbytes(200), b"\x16\x03\x01" + rng.randbytes(300), b"\x80\x80\x01\x03\x01"))


def _damaged(rng: random.Random) -> bytes:
    return damage(rng.choice((GOOD, POST, chunked(POST, rng))), rng)


def _pipelined(rng: random.Random) -> bytes:
    return rng.choice((GOOD * rng.choice((2, 40, 200)), POST + GOOD + damage(POST + GOOD, rng), (POST + GOOD) * 20))


def _chunks(rng: random.Random) -> bytes:
    head = b"POST /api/v1/namespaces/fuzz/configmaps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    sizes = (
        b"0",
        b"5",
        b"-1",
        b"fffffffff",
        b"1;a=b",
        b"zz",
        b"ffffffffffffffffffff",
        b"",
        b"0x5",
        b" 5",
        b"5 ",
        b"+5",
    )
    body = b"".join(rng.choice(sizes) + b"\r\n" + b"x" * rng.randrange(9) + b"\r\n" for _ in range(rng.randrange(5)))
    return head + body + rng.choice((b"0\r\n\r\n", b"0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"0\n\n", _HIDDEN))


def _framing(rng: random.Random) -> bytes:
    lies = b"\r\n".join(rng.choice(_FRAMINGS) for _ in range(rng.choice((1, 1, 2))))
    found = POST.replace(_HOST, _HOST + b"\r\n" + lies)
    if rng.random() < 0.5:
        found = found.replace(b"\r\n\r\n", b"\r\n\r\n0\r\n\r\n" + _HIDDEN, 1)
    return found.replace(b"\r\n", rng.choice((b"\r\n", b"\r\n", b"\n", b"\r")))


def _line(rng: random.Random) -> bytes:
    return rng.choice(_LINES) + b"\r\nHost: x\r\n\r\n" + rng.choice((b"", GOOD))


def _long(rng: random.Random) -> bytes:
    """Heads at and beyond every limit: many headers, long ones, a long target, one that never ends."""
    size = rng.choice((60_000, 1 << 20, 3 << 20))
    pick = rng.randrange(5)
    if pick == 0:
        return request("GET", "/version", b"", tuple((f"X-{n}", "y") for n in range(size // 100)))
    if pick == 1:
        return request("GET", "/version", b"", (("X", "y" * size),))
    if pick == 2:
        return request("GET", "/version", b"", (("X" * size, "y"),))
    if pick == 3:
        return request("GET", "/version?" + rng.choice(("x", "a&", "%41", "labelSelector=a&")) * (size // 8), b"", ())
    return b"GET /version HTTP/1.1\r\nX: " + b"y" * size
