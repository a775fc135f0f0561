"""What the node writes down of each pod before it acts, so that a new daemon knows what an old one began.

One small JSON file in the pod's directory, replaced whole. It is not the truth about what runs, which only the zygote
knows, but about what it is called and how often it was started.
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
        directory.mkdir(parents=True, exist_ok=True)
        temporary = directory / f"{FILE}.new"
        temporary.write_bytes(data)
        temporary.rename(directory / FILE)


def load_all(pods: Path) -> Iterator[tuple[Record, dict[str, Slot]]]:
    """Every record below `pods`; a directory without a readable one is passed over."""
    for file in pods.glob(f"*/{FILE}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            yield _decode(orjson.loads(file.read_bytes()))


def _decode(body: dict[str, Any]) -> tuple[Record, dict[str, Slot]]:
    slots = {entry["name"]: decode_slot(entry) for entry in body.pop("slots")}
    failure = body.pop("failure")
    return Record(**body, failure=(failure[0], failure[1]) if failure else None), slots
