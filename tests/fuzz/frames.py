"""Bytes for exec, attach and port-forward: right SPDY and WebSocket frames, and broken ones."""

from __future__ import annotations

import random
import struct
import zlib
from importlib.resources import files

from fuzz.objects import damage
from podling.api.streams import spdy

_TYPES = ("stdin", "stdout", "stderr", "error", "resize", "data", "", "é", "x" * 9000)


def handshake(rng: random.Random) -> tuple[bool, tuple[tuple[str, str], ...]]:
    """Whether WebSocket is asked for, and the headers of the upgrade."""
    websocket = rng.random() < 0.6
    if websocket:
        protocol = rng.choice(
            ("v5.channel.k8s.io", "v4.channel.k8s.io", "SPDY/3.1+portforward.k8s.io", "portforward.k8s.io", "x", "")
        )
        headers = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
        headers += [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]
        headers += [("Sec-WebSocket-Protocol", protocol)] if protocol else []
    else:
        protocol = rng.choice(("v4.channel.k8s.io", "v5.channel.k8s.io", "portforward.k8s.io", "x"))
        headers = [("Upgrade", "SPDY/3.1"), ("Connection", "Upgrade"), ("X-Stream-Protocol-Version", protocol)]
    if rng.random() < 0.15:
        del headers[rng.randrange(len(headers))]
    return websocket, tuple(headers)


def flow(websocket: bool, rng: random.Random) -> bytes:
    """What is sent after the upgrade."""
    data = websocket_flow(rng) if websocket else spdy_flow(rng)
    return damage(data, rng) if rng.random() < 0.5 else data


def websocket_flow(rng: random.Random) -> bytes:
    return b"".join(_websocket_frame(rng) for _ in range(rng.randrange(1, 12)))


def _websocket_frame(rng: random.Random) -> bytes:
    opcode = rng.choice((2, 2, 2, 2, 1, 0, 8, 9, 10, 3, 15))
    channel = bytes([rng.choice((0, 0, 1, 2, 3, 4, 5, 255))])
    inner = rng.choice(
        (b"", b"ls\n", b'{"Width":80,"Height":24}', b'{"Width":-1}', b"{", rng.randbytes(200), b"x" * 70_000)
    )
    payload = channel + (spdy_flow(rng) if rng.random() < 0.1 else inner)
    if opcode == 8 and rng.random() < 0.7:
        payload = struct.pack(">H", rng.choice((1000, 1001, 999, 5000))) + b"bye"
    mask = rng.randbytes(4)
    first = opcode | rng.choice((0x80, 0x80, 0x80, 0, 0xC0))
    masked = 0x80 if rng.random() < 0.95 else 0
    size = len(payload) if rng.random() < 0.95 else rng.choice((2**31, 2**62, 7))
    if size < 126:
        head = bytes([first, masked | size])
    elif size < 65536:
        head = bytes([first, masked | 126]) + struct.pack(">H", size)
    else:
        head = bytes([first, masked | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    covered = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + mask + covered.to_bytes(len(payload), "big")


def spdy_flow(rng: random.Random) -> bytes:
    packer = zlib.compressobj(zdict=files("podling.api.streams").joinpath("spdy-dictionary.bin").read_bytes())
    frames: list[bytes] = []
    for number in range(rng.randrange(1, 10)):
        stream = rng.choice((number * 2 + 1, number * 2 + 1, 1, 3, 0, 2, 2**31 - 1))
        pick = rng.randrange(10)
        if pick < 4:
            frames.append(_syn(stream, packer, rng))
        elif pick < 7:
            frames.append(_data(stream, rng))
        elif pick == 7:
            frames.append(_control(rng.choice((3, 6, 7, 9)), struct.pack(">II", stream, rng.randrange(20))))
        else:
            frames.append(_control(rng.randrange(20), rng.randbytes(rng.choice((0, 3, 4, 8, 12, 100)))))
    return b"".join(frames)


def _syn(stream: int, packer: zlib._Compress, rng: random.Random) -> bytes:
    body = _header_block(rng)
    pick = rng.randrange(20)
    if pick == 0:
        block = body
    elif pick == 1:
        block = zlib.compress(body)
    elif pick == 2:
        block = packer.compress(body) + packer.flush(zlib.Z_FULL_FLUSH)
    elif pick == 3:
        block = damage(packer.compress(body) + packer.flush(zlib.Z_SYNC_FLUSH), rng)
    elif pick == 4:
        # The end is missing; the next block continues it.
        block = packer.compress(body)
    else:
        block = packer.compress(body) + packer.flush(zlib.Z_SYNC_FLUSH)
    above = rng.choice((0, 0, 0, 1, 2**31 - 1))
    return _control(
        1, struct.pack(">IIH", stream, above, rng.choice((0, 0, 0xFFFF))) + block, rng.choice((0, 0, 1, 2, 255))
    )


def _header_block(rng: random.Random) -> bytes:
    """Names and values before compression: right ones, doubled, empty, endless ones, and counts that lie."""
    pairs = [(b"streamtype", rng.choice(_TYPES).encode()), (b"port", rng.choice((b"80", b"0", b"x", b"99999", b"-1")))]
    pairs += [(b"requestid", rng.choice((b"0", b"1", b"", b"9" * 5000)))]
    rng.shuffle(pairs)
    roll = rng.random()
    if roll < 0.1:
        pairs.append((b"big", b"z" * rng.choice((3000, 1 << 20, 1 << 20, 16 << 20))))
    elif roll < 0.15:
        pairs += [(b"", b"")] * rng.choice((1, 100_000))
    elif roll < 0.25:
        pairs += [rng.choice(((b"StreamType", b"stdin"), (b"port", b"80\x0081"), (b"\xff\0", b"\xff"), pairs[0]))]
    count = len(pairs) if rng.random() < 0.9 else rng.choice((0, len(pairs) + 1, len(pairs) - 1, 2**31, 2**32 - 1))
    body = struct.pack(">I", count) + b"".join(_sized(k) + _sized(v) for k, v in pairs)
    if rng.random() < 0.05:
        at = rng.randrange(0, max(1, min(len(body), 60) - 3))
        body = body[:at] + struct.pack(">I", rng.choice((2**32 - 1, 2**31, len(body)))) + body[at + 4 :]
    return body


def _sized(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def _data(stream: int, rng: random.Random) -> bytes:
    payload = rng.choice((b"", b"echo\n", rng.randbytes(300), b"x" * 40_000))
    size = len(payload) if rng.random() < 0.95 else 2**24 - 1
    return struct.pack(">II", stream & 0x7FFFFFFF, rng.choice((0, 0, 1)) << 24 | size) + payload


def _control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", spdy.VERSION, kind, flags << 24 | len(payload)) + payload
