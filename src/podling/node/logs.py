"""Container output as `kubectl logs` wants it, read from files in the CRI log format, rotated ones included.

A line of a file is `<RFC 3339 time> <stdout|stderr> <P|F> <text>`; parts (`P`) of a long line are joined by their
reader. Following waits for the kernel to say that a file has grown (inotify) and never looks on time.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from podling.api import meta
from podling.api.errors import ApiError, bad_request
from podling.store.types import Object

CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """`v1.PodLogOptions`. `stream` is `All`, `Stdout` or `Stderr`."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_seconds: int | None = None
    since_time: datetime | None = None
    stream: str = "All"

    def since(self, now: datetime) -> datetime | None:
        if self.since_seconds is not None:
            return now - timedelta(seconds=self.since_seconds)
        return self.since_time


class Line(NamedTuple):
    """One line, or a part of one, of a log file. `text` ends with a newline when the line ends with it."""

    stamp: bytes
    stream: bytes
    text: bytes


def parse_line(raw: bytes) -> Line | None:
    """`None` for what is not in the format (a torn write after a crash)."""
    parts = raw.rstrip(b"\n").split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return None
    text = parts[3] if len(parts) == 4 else b""
    return Line(parts[0], parts[1], text if parts[2].startswith(b"P") else text + b"\n")


def files_of(path: Path) -> list[Path]:
    """The rotated files, the oldest first, then the present one."""
    rotated = sorted(path.parent.glob(f"{path.name}.*"))
    return [*rotated, path] if path.exists() else rotated


# What is there


def last_output(path: Path, lines: int, size: int) -> str:
    """The end of a container's output, for `FallbackToLogsOnError`."""
    texts = deque((line.text for line in _parsed(_raw_lines(files_of(path)))), maxlen=lines)
    return b"".join(texts)[-size:].decode(errors="replace")


def _raw_lines(files: Iterable[Path]) -> Iterator[bytes]:
    for file in files:
        try:
            with file.open("rb") as opened:
                yield from opened
        except FileNotFoundError:
            continue  # rotated away meanwhile


def _parsed(lines: Iterable[bytes]) -> Iterator[Line]:
    for raw in lines:
        line = parse_line(raw)
        if line is not None:
            yield line


# As a stream


async def stream(
    path: Path, options: LogOptions, now: datetime, running: Callable[[], bool], ended: asyncio.Event
) -> AsyncIterator[bytes]:
    """The log in chunks; with `follow` until the container has ended and all is read.

    `running` says whether more can come, `ended` is set when no more does.
    """
    choose = _Choice(options, options.since(now))
    with _Tail(path) as tail:
        for chunk in _chunks(choose.backlog(tail.read_backlog())):
            yield chunk
            await asyncio.sleep(0)
        while options.follow and not choose.exhausted:
            last = not running()
            found = choose.pass_on(tail.read_new())
            if found:
                yield found
            elif last:
                return
            else:
                await tail.wait(ended)


class _Choice:
    """Which lines are shown, how, and how much of them."""

    def __init__(self, options: LogOptions, since: datetime | None) -> None:
        self._options = options
        self._since = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").encode() if since is not None else b""
        self._left = options.limit_bytes
        self._wanted = {"Stdout": b"stdout", "Stderr": b"stderr"}.get(options.stream)
        self._line_begins = True

    @property
    def exhausted(self) -> bool:
        return self._left is not None and self._left <= 0

    def backlog(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        shown = (line for line in _parsed(lines) if self._shown(line))
        tail = self._options.tail_lines
        for line in shown if tail is None else _last_lines(shown, tail):
            if self.exhausted:
                return
            yield self._formatted(line)

    def pass_on(self, lines: Iterable[bytes]) -> bytes:
        return b"".join(self._formatted(line) for line in _parsed(lines) if self._shown(line))

    def _shown(self, line: Line) -> bool:
        return (self._wanted is None or line.stream == self._wanted) and line.stamp >= self._since

    def _formatted(self, line: Line) -> bytes:
        text = line.text
        if self._options.timestamps and self._line_begins:
            text = line.stamp + b" " + text
        self._line_begins = line.text.endswith(b"\n")
        if self._left is not None:
            text = text[: max(0, self._left)]
            self._left -= len(text)
        return text


def _last_lines(lines: Iterable[Line], count: int) -> list[Line]:
    """The last `count` whole lines; parts of a line count together."""
    kept: deque[list[Line]] = deque(maxlen=count)
    open_line: list[Line] = []
    for line in lines:
        open_line.append(line)
        if line.text.endswith(b"\n"):
            kept.append(open_line)
            open_line = []
    if open_line:
        kept.append(open_line)
    return [line for whole in kept for line in whole]


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= CHUNK:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


class _Tail:
    """Reads whole lines of a log that grows and is rotated by renaming."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._rest = b""
        self._watch: _Watch | None = None

    def __enter__(self) -> _Tail:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)
        if self._watch is not None:
            self._watch.close()

    def read_backlog(self) -> Iterator[bytes]:
        *rotated, present = files_of(self._path) or [self._path]
        yield from _raw_lines(rotated)
        self._open(present)
        yield from self._lines()

    def read_new(self) -> list[bytes]:
        """What was written since; after a rotation, from the old file's end and the new file's beginning."""
        found = list(self._lines())
        if self._file < 0 or self._replaced():
            found += list(self._lines())
            self._open(self._path)
            found += list(self._lines())
        return found

    async def wait(self, ended: asyncio.Event) -> None:
        """Until something happens in the log's directory, or the container ends."""
        if self._watch is None:
            self._watch = _Watch(self._path.parent)
            return  # looked at once more: something may have been written before the watch was there
        await self._watch.wait(ended)

    def _open(self, path: Path) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return

    def _replaced(self) -> bool:
        try:
            return os.stat(self._path).st_ino != os.fstat(self._file).st_ino  # noqa: PTH116  compared with an open file
        except FileNotFoundError:
            return False

    def _lines(self) -> Iterator[bytes]:
        if self._file < 0:
            return
        while chunk := os.read(self._file, CHUNK):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from lines


_IN_MODIFY, _IN_CREATE, _IN_MOVED_TO = 0x2, 0x100, 0x80


class _Watch:
    """inotify on one directory."""

    def __init__(self, directory: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "inotify_init1")
        libc.inotify_add_watch(self._descriptor, os.fsencode(directory), _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO)

    async def wait(self, ended: asyncio.Event) -> None:
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, changed.set)
        waits = [asyncio.ensure_future(event.wait()) for event in (changed, ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            loop.remove_reader(self._descriptor)
        if changed.is_set():
            os.read(self._descriptor, CHUNK)

    def close(self) -> None:
        os.close(self._descriptor)


# Which run


def container_status(pod: Object, name: str) -> Object | None:
    status = meta.status(pod)
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for entry in status.get(field) or ():
            if entry["name"] == name:
                return entry
    return None


def logged_container(pod: Object, name: str, *, previous: bool) -> str:
    """The `containerID` whose log is meant. Raises `ApiError` 400 in the kubelet's words."""
    status = container_status(pod, name)
    where = f'container "{name}" in pod "{meta.name(pod)}"'
    if status is None:
        raise bad_request(f"{where} is not available")
    last = _terminated_id(status.get("lastState"))
    if previous:
        if not last:
            raise bad_request(f"previous terminated {where} not found")
        return last
    state: Mapping[str, Object] = status.get("state") or {}
    if "running" in state:
        return status.get("containerID", "")
    if "terminated" in state:
        found = _terminated_id(state) or last
        if not found:
            raise bad_request(f"{where} is terminated")
        return found
    if last:
        return last
    raise _waiting_error(where, state.get("waiting"))


def _terminated_id(state: Mapping[str, Object] | None) -> str:
    return ((state or {}).get("terminated") or {}).get("containerID", "")


def _waiting_error(where: str, waiting: Object | None) -> ApiError:
    if waiting is None:
        return bad_request(f"{where} is waiting to start - no logs yet")
    match waiting.get("reason"):
        case "ErrImagePull":
            why = "image can't be pulled"
        case "ImagePullBackOff":
            why = "trying and failing to pull image"
        case reason:
            why = str(reason)
    return bad_request(f"{where} is waiting to start: {why}")
