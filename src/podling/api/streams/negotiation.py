"""Which protocol a client of exec, attach or port-forward asks for, and how its request is read."""

from __future__ import annotations

from collections.abc import Sequence

from podling.api.connecting import Query, flag
from podling.api.errors import ApiError, bad_request
from podling.api.http import Request
from podling.api.streams import port_forward, remote_command
from podling.api.streams.backend import Dial, Start
from podling.api.streams.channels import (
    BASE64_V1,
    BASE64_V4,
    UNNAMED,
    V1,
    V2,
    V3,
    V4,
    V5,
    SpdyChannels,
    WebSocketChannels,
)
from podling.api.streams.remote_command import Wanted


def wanted(query: Query, *, attach: bool = False) -> Wanted:
    """The streams of `PodExecOptions` or `PodAttachOptions`; for attach, output is the default."""
    streams = Wanted(
        stdin=flag(query, "stdin"),
        stdout=flag(query, "stdout", attach),
        stderr=flag(query, "stderr", attach),
        tty=flag(query, "tty"),
    )
    if not (streams.stdin or streams.stdout or streams.stderr):
        raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return streams


async def serve_remote_command(request: Request, start: Start, streams: Wanted) -> None:
    """Upgrades the request and runs the process over it. Raises `ApiError` before the upgrade only."""
    if _is_websocket(request):
        protocol = _first_offered(request, b"sec-websocket-protocol", (V5, V4, BASE64_V4, V1, BASE64_V1, UNNAMED))
        await remote_command.run(start, WebSocketChannels(request, protocol, streams.first()), streams)
        return
    protocol = _spdy_protocol(request, (V4, V3, V2, V1))
    channels = SpdyChannels(request, protocol, streams.channels())
    if await channels.complete():
        await remote_command.run(start, channels, streams)


def serve_port_forward(request: Request, dial: Dial, query: Query) -> None:
    """Upgrades the request and carries connections over it until the client ends it."""
    if not _is_websocket(request):
        _spdy_protocol(request, (port_forward.SPDY_PROTOCOL,))
        port_forward.over_spdy(request, dial)
        return
    protocol = _first_offered(
        request, b"sec-websocket-protocol", (port_forward.TUNNEL, V4, BASE64_V4, port_forward.SPDY_PROTOCOL, UNNAMED)
    )
    if protocol == port_forward.TUNNEL:
        port_forward.over_tunnel(request, dial)
    else:
        port_forward.over_channels(request, protocol, dial, _ports(query))


def _is_websocket(request: Request) -> bool:
    upgrade = request.header(b"upgrade").lower()
    if not upgrade:
        raise bad_request("Upgrade request required")
    return upgrade == "websocket"


def _offers(request: Request, header: bytes) -> list[str]:
    return [offer for part in request.header(header).split(",") if (offer := part.strip())]


def _first_offered(request: Request, header: bytes, ours: Sequence[str]) -> str:
    """The one to speak: the first of the client's that is known here. Some clients (kr8s) name none."""
    offered = _offers(request, header)
    for protocol in offered or [UNNAMED]:
        if protocol in ours:
            return protocol
    raise ApiError(400, "BadRequest", f"unable to upgrade: none of the protocols {offered} is supported")


def _spdy_protocol(request: Request, ours: Sequence[str]) -> str:
    offered = _offers(request, b"x-stream-protocol-version")
    if not offered:
        return UNNAMED
    for protocol in offered:
        if protocol in ours:
            return protocol
    message = f"unable to negotiate protocol: client supports {offered}, server accepts {list(ours)}"
    accepted = [("X-Accepted-Stream-Protocol-Versions", ", ".join(ours))]
    raise ApiError(403, "Forbidden", message, headers=accepted)


def _ports(query: Query) -> list[int]:
    texts = [text for value in query.get("ports", ()) for text in value.split(",")]
    if not texts:
        raise bad_request('query parameter "ports" is required')
    ports = [int(text) for text in texts if text.isascii() and text.isdigit()]
    if len(ports) != len(texts) or not all(0 < port < 1 << 16 for port in ports):
        raise bad_request(f'unable to parse "{",".join(texts)}" as port numbers between 1 and 65535')
    return ports
