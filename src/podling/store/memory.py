"""The committed objects in memory, in the API's order, and what finds them without a scan.

Kubernetes lists by storage key, `namespace/name`: namespaces are ordered with the slash behind them, so that
`a-b` comes before `a`. A list is built once and kept until something in it changes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from podling.store.types import Entry, Key, Object

IndexFunction = Callable[[Object], Iterable[str]]
"""The values under which an object is found in an index."""


class _Space:
    """The objects of one resource in one namespace."""

    __slots__ = ("entries", "names", "ordered")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.names: list[str] = []
        self.ordered: tuple[Entry, ...] | None = None

    def put(self, entry: Entry) -> None:
        name = entry.key.name
        if name not in self.entries:
            insort(self.names, name)
        self.entries[name] = entry
        self.ordered = None

    def remove(self, name: str) -> None:
        del self.entries[name]
        del self.names[bisect_left(self.names, name)]
        self.ordered = None

    def list(self) -> tuple[Entry, ...]:
        if self.ordered is None:
            self.ordered = tuple(map(self.entries.__getitem__, self.names))
        return self.ordered


class _Table:
    """The objects of one resource."""

    __slots__ = ("order", "ordered", "spaces")

    def __init__(self) -> None:
        self.spaces: dict[str, _Space] = {}
        self.order: list[str] = []
        self.ordered: tuple[Entry, ...] | None = None

    def put(self, entry: Entry) -> None:
        namespace = entry.key.namespace
        space = self.spaces.get(namespace)
        if space is None:
            space = self.spaces[namespace] = _Space()
            insort(self.order, f"{namespace}/")
        space.put(entry)
        self.ordered = None

    def remove(self, key: Key) -> None:
        space = self.spaces[key.namespace]
        space.remove(key.name)
        if not space.names:
            del self.spaces[key.namespace]
            del self.order[bisect_left(self.order, f"{key.namespace}/")]
        self.ordered = None

    def list(self, namespace: str | None) -> tuple[Entry, ...]:
        if namespace is not None:
            space = self.spaces.get(namespace)
            return space.list() if space else ()
        if self.ordered is None:
            self.ordered = tuple(e for ns in self.order for e in self.spaces[ns[:-1]].list())
        return self.ordered


class Index:
    """Keys by value, kept up to date with every change."""

    __slots__ = ("_keys", "_values")

    def __init__(self, values: IndexFunction) -> None:
        self._values = values
        self._keys: dict[str, dict[Key, None]] = {}

    def add(self, entry: Entry) -> None:
        for value in self._values(entry.object):
            self._keys.setdefault(value, {})[entry.key] = None

    def discard(self, entry: Entry) -> None:
        for value in self._values(entry.object):
            keys = self._keys.get(value)
            if keys is not None:
                keys.pop(entry.key, None)
                if not keys:
                    del self._keys[value]

    def replace(self, old: Entry | None, new: Entry | None) -> None:
        before = list(self._values(old.object)) if old else []
        after = list(self._values(new.object)) if new else []
        if before == after:
            return
        if old:
            self.discard(old)
        if new:
            self.add(new)

    def find(self, value: str) -> Sequence[Key]:
        return sorted(self._keys.get(value, ()))


def owner_uids(obj: Object) -> list[str]:
    metadata = cast("dict[str, Any]", obj.get("metadata") or {})
    references = cast("list[dict[str, Any]]", metadata.get("ownerReferences") or [])
    return [str(reference["uid"]) for reference in references if reference.get("uid")]


class Memory:
    """Every committed object."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}
        self._owned = Index(owner_uids)
        self._indexes: dict[str, dict[str, Index]] = {}

    def get(self, key: Key) -> Entry | None:
        table = self._tables.get(key.resource)
        space = table.spaces.get(key.namespace) if table else None
        return space.entries.get(key.name) if space else None

    def list(self, resource: str, namespace: str | None) -> tuple[Entry, ...]:
        table = self._tables.get(resource)
        return table.list(namespace) if table else ()

    def resources(self) -> list[str]:
        """The resources of which at least one object exists."""
        return [resource for resource, table in self._tables.items() if table.spaces]

    def load(self, entry: Entry) -> None:
        """Takes an object from the disk; it is parsed only where an index asks for it."""
        self._tables.setdefault(entry.key.resource, _Table()).put(entry)
        if b'"ownerReferences"' in entry.raw:
            self._owned.add(entry)

    def apply(self, key: Key, old: Entry | None, new: Entry | None) -> None:
        table = self._tables.setdefault(key.resource, _Table())
        if new is not None:
            table.put(new)
        elif old is not None:
            table.remove(key)
        self._owned.replace(old, new)
        for index in self._indexes.get(key.resource, {}).values():
            index.replace(old, new)

    def owned(self, uid: str) -> list[Entry]:
        return self._present(self._owned.find(uid))

    def add_index(self, resource: str, name: str, values: IndexFunction) -> None:
        index = Index(values)
        for entry in self.list(resource, None):
            index.add(entry)
        self._indexes.setdefault(resource, {})[name] = index

    def indexed(self, resource: str, name: str, value: str) -> list[Entry]:
        return self._present(self._indexes[resource][name].find(value))

    def _present(self, keys: Iterable[Key]) -> list[Entry]:
        return [entry for key in keys if (entry := self.get(key)) is not None]
