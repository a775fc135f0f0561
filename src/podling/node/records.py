"""What the node writes down of each pod before it acts, so that a new daemon knows what an old one began.

A file in the pod's directory with a line of JSON for each state, of which the last whole one counts: to add a line
costs a twentieth of replacing a file, for which the filesystem writes the new one's blocks at once. It is not the truth
about what runs, which only the zygote knows, but about what it is called and how often it was started.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from podling.node.state import Slot, decode_slot, encode_slot
from podling.store.types import Object

FILE = "pod.json"
MOST_BYTES = 1 << 16
"""From this size on the file is replaced by its last line."""


@dataclass(slots=True)
class Record:
    """A pod as written down."""

    uid: str
    namespace: str
    name: str
    started_at: float
    ip: str = ""
    sandbox: str = ""
    """The id of its sandbox in the zygote, `""` before the first and after the last."""
    sandboxes: int = 0
    """How many sandboxes it has had."""
    ended: bool = False
    failure: tuple[str, str] | None = None
    rejected: bool = False
    """Whether the node never took it; `failure` says why."""
    allocated: dict[str, Object] = field(default_factory=lambda: dict[str, Object]())
    """The resources that the node has granted, by container (see `resize`)."""

    def save(self, directory: Path, slots: Iterable[Slot]) -> None:
        body = {name: getattr(self, name) for name in Record.__slots__}
        data = orjson.dumps({**body, "slots": [encode_slot(slot) for slot in slots]})
        try:
            size = _add_line(directory / FILE, data)
        except FileNotFoundError:
            directory.mkdir(parents=True, exist_ok=True)
            size = _add_line(directory / FILE, data)
        if size >= MOST_BYTES:
            temporary = directory / f"{FILE}.new"
            temporary.write_bytes(data)
            temporary.rename(directory / FILE)


def _add_line(file: Path, data: bytes) -> int:
    """Returns the size of the file. The line begins with its break, so that one cut short before it spoils nothing."""
    with file.open("ab", buffering=0) as opened:
        opened.write(b"\n" + data)
        return opened.tell()


def load_all(pods: Path) -> Iterator[tuple[Record, dict[str, Slot]]]:
    """Every record below `pods`; a directory without a readable one is passed over."""
    for file in pods.glob(f"*/{FILE}"):
        with contextlib.suppress(OSError):
            found = next(filter(None, map(_decode, reversed(file.read_bytes().splitlines()))), None)
            if found is not None:
                yield found


def _decode(line: bytes) -> tuple[Record, dict[str, Slot]] | None:
    """`None` for a line that was not written to its end."""
    try:
        return _from_json(orjson.loads(line))
    except (ValueError, KeyError, TypeError):
        return None


def _from_json(body: dict[str, Any]) -> tuple[Record, dict[str, Slot]]:
    slots = {entry["name"]: decode_slot(entry) for entry in body.pop("slots")}
    failure = body.pop("failure")
    return Record(**body, failure=(failure[0], failure[1]) if failure else None), slots
