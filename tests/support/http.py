"""One HTTP connection that shows every byte of its answers; for API servers in the same process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def names(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.json["items"]]


class Http:
    """One connection. `raw` sends bytes; the rest is requests and answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        await self.send(method, path, body, **headers)
        return await self.answer(head=method == "HEAD")

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        fields = {"Host": "test", "User-Agent": "tester/1.0", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if body is not None:
            fields["Content-Length"] = str(len(data))
            fields.setdefault("Content-Type", "application/json")
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def answer(self, *, head: bool = False) -> Answer:
        status, headers = await self.head()
        length = 0 if head else int(headers.get("Content-Length", "0"))
        return Answer(status, headers, await self.reader.readexactly(length))

    async def events(self, count: int) -> list[Any]:
        """The next events of a watch."""
        found: list[Any] = []
        while len(found) < count:
            chunk = await self.chunk()
            assert chunk, "the watch ended"
            found += [orjson.loads(line) for line in chunk.splitlines()]
        return found

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data

    def close(self) -> None:
        self.writer.close()
