"""Container logs in the CRI format: `<time> stdout F <text>`, one line per line of output, in files that rotate.

A line longer than 16 KiB is written in parts (tag `P`, the last one `F`), as container runtimes do, and so is a last
line without a newline.
"""

from __future__ import annotations

import contextlib
import os
import time

LINE_LIMIT = 16 * 1024
DEFAULT_MAX_BYTES = 10 * 1024 * 1024
DEFAULT_MAX_FILES = 5


def timestamp(nanoseconds: int) -> bytes:
    """RFC 3339 with nanoseconds, in UTC."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    moment = time.gmtime(seconds)
    return (time.strftime("%Y-%m-%dT%H:%M:%S", moment) + f".{fraction:09d}Z").encode()


class LineEncoder:
    """Turns the bytes of one stream into log lines; keeps an unfinished line until its end comes."""

    def __init__(self, stream: str) -> None:
        self._full = f" {stream} F ".encode()
        self._partial = f" {stream} P ".encode()
        self._rest = b""

    def feed(self, data: bytes, nanoseconds: int) -> bytes:
        """Log lines for what can be written now."""
        stamp = timestamp(nanoseconds)
        *lines, self._rest = (self._rest + data).split(b"\n")
        written: list[bytes] = []
        for line in lines:
            tail = self._split(line, stamp, written)
            written.append(stamp + self._full + tail + b"\n")
        if len(self._rest) > LINE_LIMIT:
            self._rest = self._split(self._rest, stamp, written)
        return b"".join(written)

    def finish(self, nanoseconds: int) -> bytes:
        """What is left at the end of the stream."""
        rest, self._rest = self._rest, b""
        return timestamp(nanoseconds) + self._partial + rest + b"\n" if rest else b""

    def _split(self, line: bytes, stamp: bytes, written: list[bytes]) -> bytes:
        while len(line) > LINE_LIMIT:
            written.append(stamp + self._partial + line[:LINE_LIMIT] + b"\n")
            line = line[LINE_LIMIT:]
        return line


class LogFile:
    """A log that is renamed when it gets too large, with a bounded number of files.

    Never raises for a full disk: a container's output is worth less than the zygote.
    """

    def __init__(self, path: str, max_bytes: int = DEFAULT_MAX_BYTES, max_files: int = DEFAULT_MAX_FILES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._descriptor = -1
        self._size = 0
        self._open()

    def write(self, data: bytes) -> None:
        if not data:
            return
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        if self._descriptor < 0:
            self._open()
        with contextlib.suppress(OSError):
            self._size += os.write(self._descriptor, data)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> None:
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o640)
            self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        """Rename as the kubelet does, `0.log` to `0.log.20240102-030405`, and drop the oldest."""
        self.close()
        moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        directory, name = os.path.split(self._path)
        with contextlib.suppress(OSError):
            target, number = f"{self._path}.{moment}", 0
            while os.path.exists(target):
                number += 1
                target = f"{self._path}.{moment}-{number:03d}"
            os.rename(self._path, target)
            rotated = sorted(entry for entry in os.listdir(directory) if entry.startswith(f"{name}."))
            for entry in rotated[: max(0, len(rotated) - (self._max_files - 1))]:
                os.unlink(f"{directory}/{entry}")
        self._size = 0
        self._open()
