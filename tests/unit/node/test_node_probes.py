"""Probes: thresholds, timing, and the words for what was seen."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from node_fakes import run_virtually, until

from podling.node.checks import Outcome, Target, Verdict, check_http, check_tcp, http_target, named_port
from podling.node.grpc_health import check_grpc
from podling.node.probes import Count, Note, Prober

GOOD, BAD = Outcome(Verdict.SUCCESS), Outcome(Verdict.FAILURE, "no")


def feed(count: Count, results: str) -> list[bool | None]:
    return [count.add(result == "+") for result in results]


def test_thresholds_want_consecutive_results() -> None:
    assert feed(Count(1, 3), "+--+---") == [True, None, None, True, None, None, False]
    assert feed(Count(2, 1), "+-++") == [None, False, None, True]


class Run:
    """A prober in virtual time; `answer(time)` says what a check sees."""

    def __init__(self, container: dict[str, Any], answer: Callable[[float], Outcome]) -> None:
        self.container, self.answer = container, answer
        self.seen: list[tuple[float, str, bool]] = []
        self.notes: list[Note] = []
        self.checks: list[float] = []

    def __call__(self, seconds: float, **known: Any) -> Run:
        async def main() -> None:
            loop = asyncio.get_running_loop()

            async def check(_probe: Any) -> Outcome:
                self.checks.append(round(loop.time(), 3))
                return self.answer(loop.time())

            prober = Prober(
                self.container,
                check,
                report=lambda kind, healthy: self.seen.append((round(loop.time(), 2), kind, healthy)),
                tell=self.notes.append,
                **known,
            )
            prober.start()
            await asyncio.sleep(seconds)
            prober.stop()

        run_virtually(main)
        return self


def test_readiness_is_seen_long_before_the_period_is_over() -> None:
    probe = {"httpGet": {"port": 1}, "periodSeconds": 10}
    run = Run({"readinessProbe": probe}, lambda now: GOOD if now > 0.08 else BAD)(5)
    ((moment, kind, healthy),) = run.seen
    assert (kind, healthy) == ("readiness", True)
    assert moment < 0.2
    assert run.notes == [], "tries between periods fail in silence"


def test_readiness_is_then_looked_at_once_a_period() -> None:
    probe = {"httpGet": {"port": 1}, "periodSeconds": 10, "failureThreshold": 2}
    run = Run({"readinessProbe": probe}, lambda now: GOOD if now < 15 else BAD)(45)
    assert run.checks[1:] == pytest.approx([10, 20, 30, 40], abs=0.01)
    assert run.seen[-1][1:] == ("readiness", False)
    assert 30 <= run.seen[-1][0] < 31
    assert run.notes[0] == Note("Unhealthy", "Readiness probe failed: no")


def test_liveness_begins_a_period_after_the_start_and_ends_with_its_verdict() -> None:
    probe = {"exec": {"command": []}, "periodSeconds": 10, "failureThreshold": 3}
    run = Run({"livenessProbe": probe}, lambda _now: BAD)(100)
    assert run.checks == pytest.approx([10, 20, 30], abs=0.01)
    assert [entry[1:] for entry in run.seen] == [("liveness", False)]


def test_an_initial_delay_is_kept() -> None:
    probe = {"exec": {"command": []}, "periodSeconds": 5, "initialDelaySeconds": 7}
    assert Run({"livenessProbe": probe}, lambda _now: GOOD)(13).checks == pytest.approx([7, 12], abs=0.01)


def test_the_other_probes_wait_for_the_startup_probe() -> None:
    startup = {"tcpSocket": {"port": 1}, "periodSeconds": 2, "failureThreshold": 30}
    others = {"tcpSocket": {"port": 1}, "periodSeconds": 2}
    container = {"startupProbe": startup, "readinessProbe": others, "livenessProbe": others}
    run = Run(container, lambda now: GOOD if now > 5 else BAD)(10)
    assert [entry[1:] for entry in run.seen] == [("startup", True), ("readiness", True), ("liveness", True)]
    assert run.seen[0][0] >= 5


def test_a_startup_probe_that_never_succeeds_is_decided_once() -> None:
    probe = {"exec": {"command": []}, "periodSeconds": 1, "failureThreshold": 2}
    run = Run({"startupProbe": probe}, lambda _now: BAD)(20)
    assert [entry[1:] for entry in run.seen] == [("startup", False)]
    assert 2 <= run.seen[0][0] < 2.1


def test_a_check_that_could_not_be_made_counts_as_nothing() -> None:
    probe = {"exec": {"command": []}, "periodSeconds": 1, "failureThreshold": 1}
    run = Run({"livenessProbe": probe}, lambda _now: Outcome(Verdict.UNKNOWN, "broken"))(5)
    assert run.seen == []
    assert run.notes[0].message == "Liveness probe errored and resulted in unknown state: broken"


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncGenerator[int]:
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations.add(task)
        await answer(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    running = await asyncio.start_server(converse, "127.0.0.1", 0)
    async with running:
        yield running.sockets[0].getsockname()[1]
        await until(lambda: conversations)
        await asyncio.wait(conversations)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def http(answers: dict[str, bytes]) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        answers["request"] = request
        writer.write(answers[request.split(b" ")[1].decode()])
        await writer.drain()

    return answer


class TestChecks:
    """Against real sockets of this machine."""

    @pytest.mark.parametrize(
        ("reply", "verdict", "output"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Verdict.SUCCESS, "ok"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", Verdict.SUCCESS, ""),
            (b"HTTP/1.0 200\nX: y\n\nfrom a shell script\n", Verdict.SUCCESS, "from a shell script\n"),
            (b"HTTP/1.1 500 X\r\n\r\n", Verdict.FAILURE, "HTTP probe failed with statuscode: 500"),
            (b"HTTP/1.1 302 X\r\nLocation: /there\r\n\r\n", Verdict.SUCCESS, "arrived"),
            (
                b"HTTP/1.1 302 X\r\nLocation: http://other.example/\r\n\r\n",
                Verdict.WARNING,
                "Probe terminated redirects, Response body: ",
            ),
        ],
    )
    def test_http(self, reply: bytes, verdict: Verdict, output: str) -> None:
        async def main() -> None:
            answers = {"/x": reply, "/there": b"HTTP/1.1 200 OK\r\n\r\narrived"}
            async with server(http(answers)) as port:
                target = Target("http", "127.0.0.1", port, "/x", {"X-Probe": "1"})
                assert await check_http(target, 1, "kube-probe/1.36") == Outcome(verdict, output)
            assert b"X-Probe: 1\r\n" in answers["request"]
            assert b"User-Agent: kube-probe/1.36\r\n" in answers["request"]

        asyncio.run(main())

    def test_http_without_an_answer(self) -> None:
        async def main() -> None:
            port = unused_port()
            refused = await check_http(Target("http", "127.0.0.1", port, "/", {}), 1, "a")
            url = f"http://127.0.0.1:{port}/"
            assert refused.output == f'Get "{url}": dial tcp 127.0.0.1:{port}: connect: connection refused'

            async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read()

            async with server(silence) as port:
                frozen = await check_http(Target("http", "127.0.0.1", port, "/", {}), 0.05, "a")
            expected = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            assert frozen == Outcome(Verdict.FAILURE, f'Get "http://127.0.0.1:{port}/": {expected}')

        asyncio.run(main())

    def test_tcp(self) -> None:
        async def main() -> None:
            async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...

            async with server(hang_up) as port:
                assert await check_tcp("127.0.0.1", port, 1) == GOOD
            port = unused_port()
            expected = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
            assert await check_tcp("127.0.0.1", port, 1) == Outcome(Verdict.FAILURE, expected)

        asyncio.run(main())

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (1, Outcome(Verdict.SUCCESS, "service healthy")),
            (2, Outcome(Verdict.FAILURE, 'service unhealthy (responded with "NOT_SERVING")')),
        ],
    )
    def test_grpc(self, status: int, expected: Outcome) -> None:
        def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
            return len(body).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + body

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(24)
            writer.write(frame(4, 0, 0, b""))
            while True:
                head = await reader.readexactly(9)
                body = await reader.readexactly(int.from_bytes(head[:3]))
                if head[3] == 0:
                    assert body[5:] == b"\x0a\x04mine"
                    break
            message = b"\x08" + bytes([status])
            writer.write(frame(1, 4, 1, b"\x88") + frame(0, 0, 1, struct.pack(">BI", 0, 2) + message))
            await writer.drain()

        async def main() -> None:
            async with server(serve) as port:
                assert await check_grpc("127.0.0.1", port, "mine", 1, "a") == expected
            port = unused_port()
            refused = await check_grpc("127.0.0.1", port, "", 1, "a")
            text = f'timeout: failed to connect service "127.0.0.1:{port}" within 1s: context deadline exceeded'
            assert refused == Outcome(Verdict.FAILURE, text)

        asyncio.run(main())

    def test_ports_may_be_named(self) -> None:
        container = {"ports": [{"name": "h", "containerPort": 8080}]}
        assert named_port("h", container) == 8080
        assert http_target({"port": "none"}, container, "10.0.0.1") is None
        target = http_target({"port": "h", "path": "x", "scheme": "HTTPS"}, container, "10.0.0.1")
        assert target is not None
        assert target.url == "https://10.0.0.1:8080/x"
