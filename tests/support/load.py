"""A steady stream of requests, each on a new connection, that remembers every answer and every loss."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

PATIENCE = 10.0
"""Seconds after which an unanswered request counts as lost."""


@dataclass
class Answer:
    at: float
    pod: str
    version: str
    seconds: float


@dataclass
class Loss:
    at: float
    why: str


@dataclass
class Report:
    """What came back. Times are `time.monotonic()` seconds of the request's start."""

    answers: list[Answer] = field(default_factory=list[Answer])
    lost: list[Loss] = field(default_factory=list[Loss])

    @property
    def pods(self) -> Counter[str]:
        return Counter(a.pod for a in self.answers)

    @property
    def versions(self) -> Counter[str]:
        return Counter(a.version for a in self.answers)

    def since(self, moment: float) -> Report:
        return Report([a for a in self.answers if a.at >= moment], [e for e in self.lost if e.at >= moment])

    def __str__(self) -> str:
        slowest = max((a.seconds for a in self.answers), default=0.0)
        losses = Counter(loss.why for loss in self.lost)
        return (
            f"{len(self.answers)} answered, {len(self.lost)} lost {dict(losses) or ''}, "
            f"slowest {slowest * 1000:.0f} ms, pods {dict(self.pods)}"
        )


class Load:
    """Sends `rate` requests a second from its own thread until it is stopped, never more than `limit`."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", path: str = "/", rate: float = 200, limit: int = 60_000):
        self._host, self._port, self._path = host, port, path
        self._rate, self._limit = rate, limit
        self.report = Report()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    @contextmanager
    def running(self) -> Generator[Load]:
        self._thread.start()
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> Report:
        self._stop.set()
        self._thread.join()
        return self.report

    def wait_for(self, count: int, timeout: float = 30) -> None:
        """Until `count` more answers have come."""
        target, deadline = len(self.report.answers) + count, time.monotonic() + timeout
        while len(self.report.answers) < target:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {self.report}")
            time.sleep(0.02)

    async def _run(self) -> None:
        under_way: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        for number in range(self._limit):
            if self._stop.is_set():
                break
            delay = began + number / self._rate - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            task = asyncio.create_task(self._one())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def _one(self) -> None:
        at = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self._exchange()
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.report.lost.append(Loss(at, f"{type(error).__name__}: {error}"))
            return
        self.report.answers.append(Answer(at, head.get("x-pod", ""), head.get("x-version", ""), time.monotonic() - at))

    async def _exchange(self) -> dict[str, str]:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            request = f"GET {self._path} HTTP/1.1\r\nHost: {self._host}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            answer = await reader.read()
        finally:
            writer.close()
        head, separator, _ = answer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        if not separator or status.split(" ")[1:2] != ["200"]:
            raise ValueError(status or "closed without an answer")
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
