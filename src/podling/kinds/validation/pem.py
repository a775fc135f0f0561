"""PEM: what is in a text, as Go's `encoding/pem` finds it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

_BEGIN: Final = re.compile(rb"-----BEGIN ([^\r\n]*?)-----[ \t]*\r?")
_END: Final = re.compile(rb"-----END ([^\r\n]*?)-----[ \t]*\r?")


class Block(NamedTuple):
    kind: str
    body: bytes
    """What is between its two lines."""


def blocks(text: bytes) -> Iterator[Block]:
    """The blocks of a text, which has as many lines as its author likes: each is looked at once."""
    lines = text.split(b"\n")
    ends: dict[bytes, list[int]] = {}
    for at, line in enumerate(lines):
        if match := _END.fullmatch(line):
            ends.setdefault(match[1], []).append(at)
    done = -1
    for at, line in enumerate(lines):
        match = _BEGIN.fullmatch(line) if at > done else None
        if match is None:
            continue
        closing = ends.get(match[1], [])
        index = bisect_right(closing, at)
        if index < len(closing):
            done = closing[index]
            yield Block(match[1].decode(errors="replace"), b"\n".join(lines[at + 1 : done]))
