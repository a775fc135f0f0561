"""The words that the store and its users share.

An object is the JSON that the API shows. The store keeps it as bytes; whoever needs its fields asks an
`Entry` for `.object`, which is parsed once and then **shared by everybody: it must never be changed**.
A writer builds a new object (`{**old, "spec": ...}`) and never copies deeply.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, NewType, cast

import orjson

Object = dict[str, Any]
"""A Kubernetes object (or a part of one) as the API shows it in JSON."""

Uid = NewType("Uid", str)


def compact_json(obj: Object) -> bytes:
    """The object as JSON, in no more memory than it needs: orjson's own result keeps the room that it was written
    in, several KB for a small object, which counts for what is held for long."""
    return bytes(memoryview(orjson.dumps(obj)))


class Key(NamedTuple):
    """Where an object lives: `Key("deployments.apps", "default", "web")`.

    `resource` is Kubernetes' GroupResource string: plural name, a dot and the group; the plural alone in
    the core group. `namespace` is `""` for cluster-scoped objects.
    """

    resource: str
    namespace: str
    name: str


class Entry:
    """One version of one object. Immutable; `revision` is its resourceVersion as a number.

    The parsed object takes about five times the memory of its bytes, so the store lets go of those that
    nobody asked for lately (`rest`); the labels, which every selector asks for, stay.
    """

    __slots__ = ("_labels", "_object", "_used", "key", "raw", "revision")

    def __init__(self, key: Key, revision: int, raw: bytes, parsed: Object | None = None) -> None:
        self.key = key
        self.revision = revision
        self.raw = raw
        self._object = parsed
        self._used = True
        self._labels: dict[str, str] | None = None

    @property
    def object(self) -> Object:
        """The parsed object. Shared: do not change it."""
        self._used = True
        if self._object is None:
            self._object = cast(Object, orjson.loads(self.raw))
        return self._object

    @property
    def labels(self) -> dict[str, str]:
        """`metadata.labels`; shared."""
        if self._labels is None:
            self._labels = cast("dict[str, str]", self.object["metadata"].get("labels") or {})
        return self._labels

    def rest(self) -> None:
        """Forgets the parsed object if it was not used since the last call."""
        if not self._used:
            self._object = None
        self._used = False

    def at(self, revision: int) -> Entry:
        """The same state with another resourceVersion: how a watch shows an object that is gone."""
        metadata = {**self.object["metadata"], "resourceVersion": str(revision)}
        obj = {**self.object, "metadata": metadata}
        return Entry(self.key, revision, compact_json(obj), obj)

    def showing(self, obj: Object) -> Entry:
        """The same state as another version of the API shows it."""
        return self if obj is self._object else Entry(self.key, self.revision, compact_json(obj), obj)

    def __repr__(self) -> str:
        return f"<{'/'.join(filter(None, self.key))} @{self.revision}>"


class ChangeType(StrEnum):
    """The watch event types of the API."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class Change(NamedTuple):
    """One committed write. `entry` is the new version (of a deletion: the last state, at the deletion's
    revision); `previous` is the version before, `None` for ADDED."""

    type: ChangeType
    entry: Entry
    previous: Entry | None


class StoreError(Exception):
    """Base of what the store refuses."""


class AlreadyExists(StoreError):
    """A create met an object of that key."""


class NotFound(StoreError):
    """An update or delete met no object of that key."""


class Conflict(StoreError):
    """The object is not at the revision that the writer expected."""


class Compacted(StoreError):
    """The history asked for is no longer held: the API's 410 Gone."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"history begins at revision {oldest}")
        self.oldest = oldest


class StorageFailed(StoreError):
    """The state file cannot be read or written; the message says which and why. Nothing was changed."""


class StorageFull(StorageFailed):
    """No space is left for a write. Reads go on, and so do writes when there is room again."""
