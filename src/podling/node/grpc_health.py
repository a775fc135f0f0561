"""A grpc probe: one call of `grpc.health.v1.Health/Check` over HTTP/2 without TLS, by hand.

The exchange is a preface, three frames out and a few in; a whole HTTP/2 or gRPC library would be more code to load than
the probe is. Headers go out as literals; what comes back is judged by its DATA frame, and a call that is refused has
none. Wire formats: RFC 9113, RFC 7541 6.2.2, gRPC over HTTP/2, grpc/health/v1/health.proto.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import NamedTuple

from podling.node.checks import Outcome, Verdict

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_ACK = 1
_END_STREAM = 1
_END_HEADERS = 4
_STREAM = 1
_FRAME_LIMIT = 16 * 1024

_SERVING = 1
_NAMES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class _Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    body: bytes


class _Refused(Exception):
    """The call ended without an answer."""


async def check_grpc(host: str, port: int, service: str, timeout: float, agent: str) -> Outcome:
    """The messages are those of the kubelet's grpc prober."""
    address = f"{host}:{port}"
    seconds = f"{timeout:g}s"
    try:
        async with asyncio.timeout(timeout) as limit:
            try:
                reader, writer = await asyncio.open_connection(host, port)
            except OSError:
                limit.reschedule(None)
                return _unreachable(address, seconds)
            try:
                status = await _call(reader, writer, address, service, agent)
            finally:
                writer.close()
    except TimeoutError:
        return Outcome(Verdict.FAILURE, f"timeout: health rpc did not complete within {seconds}")
    except _Refused as refusal:
        return Outcome(
            Verdict.FAILURE,
            f"error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {refusal}",
        )
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        return Outcome(Verdict.FAILURE, f"error: health rpc probe failed: {error}")
    if status != _SERVING:
        return Outcome(Verdict.FAILURE, f'service unhealthy (responded with "{_NAMES.get(status, status)}")')
    return Outcome(Verdict.SUCCESS, "service healthy")


def _unreachable(address: str, seconds: str) -> Outcome:
    text = f'timeout: failed to connect service "{address}" within {seconds}: context deadline exceeded'
    return Outcome(Verdict.FAILURE, text)


async def _call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, service: str, agent: str
) -> int:
    """The `status` field of the answer."""
    writer.write(
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, _STREAM, _headers(address, agent))
        + _frame(_DATA, _END_STREAM, _STREAM, _message(_health_request(service)))
    )
    answer = b""
    async for frame in _frames(reader):
        if frame.kind == _SETTINGS and not frame.flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif frame.kind == _PING and not frame.flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, frame.body))
        elif frame.kind in (_RESET, _GOAWAY):
            raise _Refused("the stream was reset")
        elif frame.kind == _DATA:
            answer += frame.body
            if len(answer) >= 5 and len(answer) >= 5 + struct.unpack(">I", answer[1:5])[0]:
                return _health_status(answer[5:])
        elif frame.kind == _HEADERS and frame.flags & _END_STREAM:
            raise _Refused("the call ended without an answer")
    raise _Refused("the connection was closed")


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[_Frame]:
    while True:
        head = await reader.readexactly(9)
        length = int.from_bytes(head[:3])
        if length > _FRAME_LIMIT:
            raise ValueError("frame too large")
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        yield _Frame(kind, flags, stream & 0x7FFFFFFF, await reader.readexactly(length))


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + body


def _headers(address: str, agent: str) -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": address,
        "content-type": "application/grpc",
        "user-agent": agent,
        "te": "trailers",
    }
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields.items())


def _text(value: str) -> bytes:
    """A string literal without Huffman coding; all of ours are shorter than 127 bytes or use one more length byte."""
    data = value.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    return b"\x7f" + _varint(len(data) - 127) + data


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first: HPACK's and protobuf's integers."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(body: bytes) -> bytes:
    """gRPC's length prefix: not compressed."""
    return struct.pack(">BI", 0, len(body)) + body


def _health_request(service: str) -> bytes:
    data = service.encode()
    return b"\x0a" + _varint(len(data)) + data if data else b""


def _health_status(body: bytes) -> int:
    """Field 1 of HealthCheckResponse; absent means 0 (UNKNOWN)."""
    return body[1] if len(body) >= 2 and body[0] == 0x08 else 0
