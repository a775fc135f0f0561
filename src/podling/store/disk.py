"""The state file: SQLite in WAL mode, one transaction per batch of writes.

Two tables. `objects` holds the present version of every object. `history` holds the versions that were replaced
or deleted lately, each with the revision that superseded it. A write moves the old version to `history` and puts
the new one into `objects`; together they tell every change after `floor`, with the version before it, so that
watches can be continued over a restart. History up to `floor` is deleted in batches.

The file is locked for as long as it is open (`locking_mode=EXCLUSIVE`): a second process cannot open it, and the
kernel releases the lock of a killed one.

`write` only changes pages in memory and is quick; `commit` waits for the disk, and may do so in another thread as
long as nothing else is asked of the file meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from podling.store.types import Change, ChangeType, Entry, Key, StorageFailed, StorageFull

Durability = Literal["full", "normal"]
"""`full`: an acknowledged write survives a power cut. `normal`: it survives the death of the process, not
necessarily of the machine."""

FIRST_REVISION = 1000
"""Where a new store begins to count. A small made-up resourceVersion is so answered "too old", as a real
cluster that has been running for a while answers it."""

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE objects (
    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    revision INTEGER NOT NULL, raw BLOB NOT NULL,
    PRIMARY KEY (resource, namespace, name)
);
CREATE TABLE history (
    superseded INTEGER PRIMARY KEY,
    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    revision INTEGER NOT NULL, deleted INTEGER NOT NULL, raw BLOB NOT NULL
);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

_PUT = (
    "INSERT INTO objects VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET revision = excluded.revision, raw = excluded.raw"
)
_DELETE = "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?"
_SUPERSEDE = "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?)"
_SET_META = "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


class _Superseded(NamedTuple):
    superseded: int
    entry: Entry
    deleted: bool


class Disk:
    """An open state file."""

    def __init__(self, path: Path | str, durability: Durability) -> None:
        self.path = str(path)
        try:
            self._db = _open(self.path, durability)
            self._prepare()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def close(self) -> None:
        self._db.close()

    def load(self) -> tuple[int, int, list[Entry]]:
        """The newest revision, the floor of the history, and every object."""
        try:
            meta = dict(self._db.execute("SELECT name, value FROM meta"))
            rows = self._db.execute("SELECT resource, namespace, name, revision, raw FROM objects")
            entries = [Entry(Key(r, ns, n), revision, raw) for r, ns, n, revision, raw in rows]
        except sqlite3.Error as error:
            raise self._failure(error) from error
        return meta["revision"], meta["floor"], entries

    def changes(self, floor: int, present: Sequence[Entry]) -> list[Change]:
        """Every change after `floor`, the oldest first, rebuilt from the two tables."""
        replaced = list(self._superseded(floor))
        versions = {e.revision: e for e in present if e.revision > floor}
        versions.update({s.entry.revision: s.entry for s in replaced if s.entry.revision > floor})
        changes = [_change(s, versions) for s in replaced]
        successors = {change.entry.revision for change in changes}
        changes += [Change(ChangeType.ADDED, e, None) for r, e in versions.items() if r not in successors]
        return sorted(changes, key=lambda change: change.entry.revision)

    def _superseded(self, floor: int) -> Iterator[_Superseded]:
        query = "SELECT superseded, resource, namespace, name, revision, deleted, raw FROM history WHERE superseded > ?"
        for superseded, resource, namespace, name, revision, deleted, raw in self._db.execute(query, (floor,)):
            yield _Superseded(superseded, Entry(Key(resource, namespace, name), revision, raw), bool(deleted))

    def write(self, changes: Sequence[Change]) -> None:
        """Puts a batch into a new transaction. Raises `StorageFull` or `StorageFailed`; nothing is then written."""
        try:
            self._write(changes)
        except sqlite3.Error as error:
            self._roll_back()
            raise self._failure(error) from error

    def commit(self, floor: int | None) -> None:
        """Makes the batch last; with `floor`, history up to it is forgotten in the same transaction. Raises as `write`
        does."""
        try:
            if floor is not None:
                self._db.execute("DELETE FROM history WHERE superseded <= ?", (floor,))
                self._db.execute(_SET_META, ("floor", floor))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise self._failure(error) from error

    def _write(self, changes: Sequence[Change]) -> None:
        execute = self._db.execute
        execute("BEGIN IMMEDIATE")
        for change in changes:
            key, revision = change.entry.key, change.entry.revision
            deleted = change.type is ChangeType.DELETED
            if change.previous is not None:
                execute(_SUPERSEDE, (revision, *key, change.previous.revision, deleted, change.previous.raw))
            if deleted:
                execute(_DELETE, key)
            else:
                execute(_PUT, (*key, revision, change.entry.raw))
        execute(_SET_META, ("revision", changes[-1].entry.revision))

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == _SCHEMA_VERSION:
            return
        if version != 0:
            raise StorageFailed(f"{self.path}: written by another version of podling (format {version})")
        self._db.executescript(
            f"BEGIN; {_SCHEMA}"
            f"INSERT INTO meta VALUES ('revision', {FIRST_REVISION}), ('floor', {FIRST_REVISION});"
            f"PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;"
        )

    def _failure(self, error: sqlite3.Error) -> StorageFailed:
        code = error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else 0
        if code == sqlite3.SQLITE_FULL:
            return StorageFull(f"{self.path}: no space left on the disk; make room and try again")
        if code == sqlite3.SQLITE_BUSY:
            return StorageFailed(f"{self.path}: in use by another process")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            mend = "`podling down` removes the cluster, `podling up` makes it anew"
            return StorageFailed(f"{self.path}: the state file is damaged ({error}); {mend}")
        return StorageFailed(f"{self.path}: {error}")


def _open(path: str, durability: Durability) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0, cached_statements=16)
    for pragma in (
        "locking_mode = EXCLUSIVE",
        "journal_mode = WAL",
        f"synchronous = {durability.upper()}",
        "journal_size_limit = 67108864",
    ):
        db.execute(f"PRAGMA {pragma}")
    return db


def _change(replaced: _Superseded, versions: dict[int, Entry]) -> Change:
    if replaced.deleted:
        return Change(ChangeType.DELETED, replaced.entry.at(replaced.superseded), replaced.entry)
    return Change(ChangeType.MODIFIED, versions[replaced.superseded], replaced.entry)
