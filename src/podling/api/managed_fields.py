"""Who owns which field: `metadata.managedFields` and server-side apply.

Two entry points. `track_update` is for every write that is no apply: what it changed moves to its manager. `apply`
merges a configuration into the live object, takes away what this manager applied before and no longer does (unless
somebody else owns it), and refuses to change what others own, unless forced.

The rules are those of k8s.io/apimachinery/pkg/util/managedfields and structured-merge-diff. Ownership is recorded
per manager, operation, subresource and (for updates) API version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

import orjson

from podling.api import field_sets, gotext
from podling.api.errors import ApiError, FieldError, bad_request, invalid_value, too_long
from podling.api.field_sets import Set
from podling.api.meta import timestamp
from podling.api.schema import Node
from podling.api.structs import DecodeError, shape
from podling.store.types import Object

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_LONGEST_NAME: Final = 128
_LONGEST_SUBRESOURCE: Final = 256
MAX_UPDATE_MANAGERS: Final = 10
"""More updaters than this are joined, the oldest first, into `ancient-changes`."""
MAX_ANNOTATIONS: Final = 256 << 10
"""Bytes of keys and values together; an annotation of client-side apply that does not fit is dropped."""

_FIRST: Final = "before-first-apply"
_ANCIENT: Final = "ancient-changes"
_UNNAMED: Final = "unknown"

_TYPE: Final = frozenset({"apiVersion", "kind"})
_SERVERS: Final = frozenset(
    {
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    }
)
"""Of the metadata."""
_NEVER_OWNED: Final[Set] = {
    **{f"f:{name}": {} for name in _TYPE},
    "f:metadata": {".": {}, **{f"f:{name}": {} for name in _SERVERS}},
}


class Manager(NamedTuple):
    """What identifies an entry. `api_version` is `""` for Apply, which keeps one entry whatever its version."""

    name: str
    operation: str
    api_version: str
    subresource: str


@dataclass(frozen=True, slots=True)
class Owned:
    """What a manager owns, in the field names of a version, and since when."""

    fields: Set
    api_version: str
    time: str | None


Managers = dict[Manager, Owned]
Elsewhere = Mapping[str, field_sets.Comparison | None]
"""How a change looks in other versions, by apiVersion, where these have other fields: of managers of such versions.

None for a version that is not served: who owned something there owns nothing any more.
"""


def manager_problems(name: str, field: str) -> list[FieldError]:
    """What is wrong with the name of a manager."""
    if name.isprintable() and len(name.encode()) <= _LONGEST_NAME:
        return []
    problems = [too_long(field, _LONGEST_NAME)] if len(name.encode()) > _LONGEST_NAME else []
    for position, character in enumerate(name):
        if not character.isprintable():
            offset = len(name[:position].encode())
            problems.append(
                invalid_value(field, name, f"invalid character {_code_point(character)} (at position {offset})")
            )
    return problems


def _code_point(character: str) -> str:
    """Go's `%#U` of a character that cannot be printed."""
    return f"U+{ord(character):04X}"


def manager_of(user_agent: str) -> str:
    """The name of a client that gives none, from its `User-Agent`."""
    name = "".join(filter(str.isprintable, user_agent.partition("/")[0]))
    return name.encode()[:_LONGEST_NAME].decode(errors="ignore")


def _identity(name: str, operation: str, api_version: str, subresource: str) -> Manager:
    return Manager(name, operation, "" if operation == "Apply" else api_version, subresource)


def _decode(entries: Any, node: Node, *, sent: bool = False) -> Managers | None:
    """None when an entry is malformed: then there are none, as for the API server.

    What is stored has one form already; what was `sent` is brought into it. The schema of a custom resource may have
    changed since.
    """
    if not isinstance(entries, list):
        return {}
    managers: Managers = {}
    for entry in cast(list[Object], entries):
        api_version, operation = entry.get("apiVersion", ""), entry.get("operation", "")
        fields: Any = entry.get("fieldsV1") or {}
        if operation not in {"Apply", "Update"} or not api_version or entry.get("fieldsType") != "FieldsV1":
            return None
        if sent:
            try:
                fields = field_sets.decoded(fields)
            except ValueError:
                return None
        if node.structural:
            fields = field_sets.settled(fields, node)
        identity = _identity(entry.get("manager", ""), operation, api_version, entry.get("subresource", ""))
        managers[identity] = Owned(cast(Set, fields), api_version, entry.get("time"))
    return managers


def in_order(entries: Iterable[Object]) -> list[Object]:
    """Entries in the order in which the API shows them."""

    def rank(entry: Object) -> tuple[str, str, str, str, str]:
        of = entry.get
        return of("operation", ""), of("time", ""), of("manager", ""), of("apiVersion", ""), of("subresource", "")

    return sorted(entries, key=rank)


def _encode(managers: Managers) -> list[Object]:
    return in_order(_entry(manager, owned) for manager, owned in managers.items())


def _entry(manager: Manager, owned: Owned) -> Object:
    entry: Object = {"manager": manager.name} if manager.name else {}
    entry |= {"operation": manager.operation, "apiVersion": owned.api_version}
    if owned.time:
        entry["time"] = owned.time
    entry |= {"fieldsType": "FieldsV1", "fieldsV1": owned.fields}
    if manager.subresource:
        entry["subresource"] = manager.subresource
    return entry


def _identifier(manager: Manager) -> str:
    """What Kubernetes sorts managers by: the JSON of an entry without fields and time."""
    parts = zip(("manager", "operation", "apiVersion", "subresource"), manager, strict=True)
    return gotext.json_text({name: part for name, part in parts if part})


def problems(obj: Object) -> list[FieldError]:
    """What is wrong with the names in the managedFields that somebody sent."""
    found: list[FieldError] = []
    for index, entry in enumerate(cast("list[Object]", _entries(obj) or ())):
        place = f"metadata.managedFields[{index}]"
        found += manager_problems(entry.get("manager", ""), f"{place}.manager")
        if len(entry.get("subresource", "").encode()) > _LONGEST_SUBRESOURCE:
            found.append(too_long(f"{place}.subresource", _LONGEST_SUBRESOURCE))
    return found


def _metadata(obj: Object) -> Object:
    """`{}` also where an apply configuration, which is typed only when it is merged, has something else."""
    metadata = obj.get("metadata")
    return cast(Object, metadata) if isinstance(metadata, dict) else {}


def _annotations(obj: Object) -> Object:
    return cast(Object, _metadata(obj).get("annotations") or {})


def _entries(obj: Object | None) -> Any:
    return _metadata(obj).get("managedFields") if obj else None


def _without_entries(obj: Object) -> Object:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return obj
    rest = {key: value for key, value in cast(Object, metadata).items() if key != "managedFields"}
    return {**obj, "metadata": rest}


def _with_entries(obj: Object, managers: Managers) -> Object:
    bare = _without_entries(obj)
    if not managers:
        return bare
    return {**bare, "metadata": {**_metadata(bare), "managedFields": _encode(managers)}}


def _ignored(reset_fields: Sequence[str]) -> Set:
    """The fields that an endpoint throws away: nobody owns them by a write there."""
    result: Set = {}
    for path in reset_fields:
        place = result
        *above, last = path.split(".")
        for name in above:
            place = place.setdefault(f"f:{name}", {})
        place[f"f:{last}"] = {}
    return result


# --- updates


def track_update(
    old: Object | None,
    new: Object,
    node: Node,
    *,
    manager: str,
    api_version: str,
    now: datetime,
    subresource: str = "",
    reset_fields: Sequence[str] = (),
    elsewhere: Elsewhere = MappingProxyType({}),
) -> Object:
    """`new` with its managedFields: what differs from `old` (None: a create) now belongs to `manager`.

    Call it with the object as the user wants it, defaulted, before the strategy's `prepare` and before anything is
    allocated: what the server fills in later has no owner. `reset_fields` are the dotted paths that the endpoint
    ignores.

    managedFields in `new` replace those of `old` (a user may edit them); `[]` and `[{}]` clear them.
    """
    managers = _sent_or_live(old, new, node, subresource)
    bare = _without_entries(new)
    if not managers and old is not None and _uid(old):
        return _with_entries(bare, managers)
    identity = _identity(manager or _UNNAMED, "Update", api_version, subresource)
    ignored = _ignored(reset_fields)
    before, time = _without_entries(old or {}), timestamp(now)
    after = bare if before or managers else _ownable(bare)
    updated = _update(managers, before, after, node, identity, time, api_version, ignored, elsewhere)
    return _with_entries(bare, _capped(updated))


def _ownable(obj: Object) -> Object:
    """A new object without what nobody owns: that needs not be walked to be left out."""
    rest = {name: value for name, value in obj.items() if name not in _TYPE}
    if "metadata" in rest:
        rest["metadata"] = {name: value for name, value in _metadata(obj).items() if name not in _SERVERS}
    return rest


def _uid(obj: Object) -> str:
    return _metadata(obj).get("uid", "")


def _sent_or_live(old: Object | None, new: Object, node: Node, subresource: str) -> Managers:
    sent = _entries(new)
    if not subresource and sent is not None:
        if sent in ([], [{}]):
            return {}
        before = _entries(old)
        managers = _decode(sent, node, sent=sent != before)
        if managers:
            return managers
    return _decode(_entries(old), node) or {}


def _update(
    managers: Managers,
    old: Object,
    new: Object,
    node: Node,
    identity: Manager,
    time: str,
    api_version: str,
    ignored: Set,
    elsewhere: Elsewhere,
) -> Managers:
    change = field_sets.compare(old, new, node).without(ignored)
    owned = field_sets.difference(change.changed, _NEVER_OWNED)
    before = managers.get(identity)
    if before is not None and _stays(before.fields, owned, change):
        result = _taken_away(managers, change, elsewhere, keep=identity)
        if owned:
            result[identity] = Owned(before.fields, api_version, time)
        return result
    result = _taken_away(managers, change, elsewhere)
    if owned:
        left = result.get(identity)
        fields = field_sets.union(left.fields, owned) if left else owned
        result[identity] = Owned(field_sets.in_order(fields), api_version, time)
    return result


def compared(old: Object, new: Object, node: Node, reset_fields: Sequence[str]) -> field_sets.Comparison:
    """What `elsewhere` is made of: the same change in the field names of another version."""
    change = field_sets.compare(_without_entries(old), _without_entries(new), node)
    return change.without(_ignored(reset_fields))


def _stays(fields: Set, owned: Set, change: field_sets.Comparison) -> bool:
    """Whether a manager who takes `owned` in a change has what it had, as most do who write again and again."""
    if field_sets.intersection(fields, change.removed):
        return False
    return field_sets.intersection(fields, change.changed) == owned


def _taken_away(
    managers: Managers, here: field_sets.Comparison, elsewhere: Elsewhere, keep: Manager | None = None
) -> Managers:
    """All managers without what changed or went; those left with nothing disappear."""
    result: Managers = {}
    for manager, owned in managers.items():
        if manager == keep:
            result[manager] = owned
            continue
        fields, change = owned.fields, elsewhere.get(owned.api_version, here)
        if change is None:
            continue
        for gone in (change.changed, change.removed):
            taken = field_sets.intersection(fields, gone)
            if taken:
                fields = field_sets.difference(fields, taken)
        if fields:
            result[manager] = owned if fields is owned.fields else replace(owned, fields=fields)
    return result


def _capped(managers: Managers) -> Managers:
    """At most ten updaters: the oldest of a version are joined into one entry."""
    updaters = [manager for manager in managers if manager.operation == "Update"]
    surplus = len(updaters) - MAX_UPDATE_MANAGERS
    if surplus <= 0:
        return managers
    result = dict(managers)
    first: dict[str, Manager] = {}
    for manager in sorted(updaters, key=lambda item: (managers[item].time or "", _identifier(item))):
        if surplus <= 0:
            break
        owned = managers[manager]
        bucket = Manager(_ANCIENT, "Update", owned.api_version, "")
        if owned.api_version not in first:
            first[owned.api_version] = manager
            continue
        if bucket not in result:
            result[bucket] = result.pop(first[owned.api_version])
        fields = field_sets.in_order(field_sets.union(owned.fields, result[bucket].fields))
        result[bucket] = Owned(fields, owned.api_version, owned.time)
        if manager != bucket:
            del result[manager]
        surplus -= 1
    return result


# --- apply


class _Conflict(NamedTuple):
    manager: Manager
    api_version: str
    path: tuple[str, ...]


class _Conflicts(Exception):
    def __init__(self, conflicts: list[_Conflict]) -> None:
        super().__init__(f"{len(conflicts)} conflicts")
        self.conflicts = conflicts


def apply(
    live: Object | None,
    config: Object,
    node: Node,
    *,
    manager: str,
    force: bool,
    api_version: str,
    now: datetime,
    subresource: str = "",
    reset_fields: Sequence[str] = (),
    elsewhere: Elsewhere = MappingProxyType({}),
) -> Object:
    """The live object (None: a create) with `config` applied, as Go would write it; not yet defaulted.

    Raises ApiError: 409 with a cause for each field that another manager owns, 500 (as the API does) for a
    configuration that does not fit the schema, 400 for one that holds managedFields.
    """
    if _metadata(config).get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    _check(config, node)
    application = _Application(
        live=_without_entries(live or {}),
        config=config,
        node=node,
        identity=_identity(manager, "Apply", api_version, subresource),
        api_version=api_version,
        time=timestamp(now),
        ignored=_ignored(reset_fields),
        elsewhere=elsewhere,
    )
    managers = _decode(_entries(live), node) or {}
    if not managers and live is not None:
        managers = application.first_managers(subresource)
    try:
        merged, owners = application.run(managers, force)
    except _Conflicts as refused:
        merged, owners = application.forgiven(managers, refused.conflicts)
    if manager == "kubectl":
        merged = _with_last_applied(merged, config)
    result = _with_entries(merged, owners)
    return keep_times(live, result) if live is not None else result


def _check(config: Object, node: Node) -> None:
    found = field_sets.problems(config, node)
    if found:
        text = found[0] if len(found) == 1 else "\n  ".join(["errors:", *found])
        raise ApiError(500, "", f"failed to create typed patch object ({_described(config)}): {text}")


def _described(obj: Object) -> str:
    """Namespace, name and kind, as messages name an object."""
    metadata = _metadata(obj)
    group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    kind = f"{group}/{version}, Kind={obj.get('kind', '')}"
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}; {kind}"


@dataclass(frozen=True, slots=True)
class _Application:
    """One apply: what is merged into what, and by whom."""

    live: Object
    config: Object
    node: Node
    identity: Manager
    api_version: str
    time: str
    ignored: Set
    elsewhere: Elsewhere

    def first_managers(self, subresource: str) -> Managers:
        """Of an object that nobody owns: all that is there belongs to whoever was before."""
        identity = _identity(_FIRST, "Update", self.api_version, subresource)
        return _update({}, {}, self.live, self.node, identity, self.time, self.api_version, self.ignored, {})

    def run(self, managers: Managers, force: bool) -> tuple[Object, Managers]:
        """The new object and its owners. Raises _Conflicts."""
        owned = field_sets.recursive_difference(field_sets.field_set(self.config, self.node), self.ignored)
        before = managers.get(self.identity)
        owners = {**managers, self.identity: Owned(owned, self.api_version, before.time if before else None)}
        merged = field_sets.merge(self.live, self.config, self.node) if self.live else self.config
        if before is not None and not field_sets.is_subset(before.fields, owned):
            merged = self._prune(merged, before.fields, owners)
        owners = self._settle(merged, owners, force)
        if merged == self.live:
            return self.live, owners
        if self.identity in owners:
            owners[self.identity] = replace(owners[self.identity], time=self.time)
        return self._written(merged), owners

    def _settle(self, merged: Object, owners: Managers, force: bool) -> Managers:
        change = field_sets.compare(self.live, merged, self.node).without(self.ignored)
        conflicts = [] if force else self._conflicts(owners, change)
        if conflicts:
            raise _Conflicts(conflicts)
        result = _taken_away(owners, change, self.elsewhere, keep=self.identity)
        mine = field_sets.difference(result[self.identity].fields, _NEVER_OWNED)
        if mine:
            result[self.identity] = replace(result[self.identity], fields=field_sets.in_order(mine))
        else:
            del result[self.identity]
        return result

    def _conflicts(self, owners: Managers, here: field_sets.Comparison) -> list[_Conflict]:
        found: list[_Conflict] = []
        for manager, owned in owners.items():
            if manager != self.identity:
                change = self.elsewhere.get(owned.api_version, here)
                contested = field_sets.intersection(owned.fields, change.changed) if change is not None else {}
                found += [_Conflict(manager, owned.api_version, path) for path in field_sets.paths(contested)]
        return found

    def _prune(self, merged: Object, last: Set, owners: Managers) -> Object:
        """Takes away what this manager applied last time and not now, and nobody owns."""
        node = self.node
        last = field_sets.with_named_fields(last, node)
        pruned = field_sets.remove(merged, last, node)
        everything = field_sets.with_named_fields(field_sets.field_set(merged, node), node)
        kept = field_sets.with_named_fields(field_sets.field_set(pruned, node), node)
        for owned in owners.values():
            kept = field_sets.union(kept, field_sets.with_named_fields(owned.fields, node))
        pruned = field_sets.remove(merged, field_sets.difference(everything, kept), node)
        left = field_sets.with_named_fields(field_sets.field_set(pruned, node), node)
        gone = field_sets.intersection(field_sets.difference(everything, left), last)
        return field_sets.remove(merged, gone, node)

    def _written(self, merged: Object) -> Object:
        try:
            return shape(merged, self.node)[0]
        except DecodeError as error:
            text = f"failed to convert new typed object ({_described(self.config)}) to object: {error}"
            raise ApiError(500, "", text) from None

    def forgiven(self, managers: Managers, conflicts: list[_Conflict]) -> tuple[Object, Managers]:
        """kubectl may take over what its own client-side apply set last, if nobody changed it since."""
        allowed = self._last_applied_by_client() if self.identity.name == "kubectl" else {}
        open_conflicts = [conflict for conflict in conflicts if not _has(allowed, conflict.path)]
        if open_conflicts:
            raise _conflict_error(open_conflicts)
        return self.run(managers, True)

    def _last_applied_by_client(self) -> Set:
        annotations = _annotations(self.live)
        try:
            last: Any = orjson.loads(annotations.get(LAST_APPLIED, ""))
        except orjson.JSONDecodeError:
            return {}
        if not isinstance(last, dict) or cast(Object, last).get("apiVersion") != self.api_version:
            return {}
        applied = cast(Object, last)
        if field_sets.problems(applied, self.node):
            return {}
        change = field_sets.compare(applied, self.live, self.node)
        result = field_sets.field_set(applied, self.node)
        for changed in (change.modified, change.added, change.removed):
            result = field_sets.difference(result, changed)
        return result


def _has(members: Set, path: tuple[str, ...]) -> bool:
    for element in path:
        if element not in members:
            return False
        members = members[element]
    return field_sets.is_member(members)


def _with_last_applied(merged: Object, config: Object) -> Object:
    """Keeps the annotation of client-side apply in step, where there is one."""
    annotations = _annotations(merged)
    if not annotations.get(LAST_APPLIED):
        return merged
    if LAST_APPLIED in _annotations(config):
        rest = {key: value for key, value in _annotations(config).items() if key != LAST_APPLIED}
        config = {**config, "metadata": {**_metadata(config), "annotations": rest}}
    text = gotext.json_text(config, sort_keys=True) + "\n"
    others = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    size = sum(len(key.encode()) + len(value.encode()) for key, value in others.items())
    if size + len(LAST_APPLIED) + len(text.encode()) <= MAX_ANNOTATIONS:
        others[LAST_APPLIED] = text
    return {**merged, "metadata": {**_metadata(merged), "annotations": others}}


def _described_manager(conflict: _Conflict) -> str:
    manager = conflict.manager
    text = f'conflict with "{manager.name}"'
    if manager.subresource:
        text += f' with subresource "{manager.subresource}"'
    return text if manager.operation == "Apply" else f"{text} using {conflict.api_version}"


def _conflict_error(conflicts: list[_Conflict]) -> ApiError:
    conflicts = sorted(conflicts, key=lambda conflict: _identifier(conflict.manager))
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": _described_manager(conflict),
            "field": field_sets.path_text(conflict.path),
        }
        for conflict in conflicts
    ]
    if len(causes) == 1:
        message = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        message = f"Apply failed with {len(causes)} conflicts: {_conflict_list(causes)}"
    return ApiError(409, "Conflict", message, {"causes": causes})


def _conflict_list(causes: Sequence[Mapping[str, str]]) -> str:
    by_manager: dict[str, list[str]] = {}
    for cause in causes:
        by_manager.setdefault(cause["message"].replace("conflict", "conflicts", 1), []).append(cause["field"])
    lines = [line for text, fields in by_manager.items() for line in (f"{text}:", *(f"- {f}" for f in fields))]
    return "\n".join(lines)


def keep_times(old: Object, new: Object) -> Object:
    """`new` with the times of `old`'s managedFields, if it differs from `old` by nothing else.

    A write that changes nothing must not be stored only because the clock went on.
    """
    before, after = _entries(old), _entries(new)
    if before == after or not before or not after:
        return new
    if _timeless(before) != _timeless(after) or _without_entries(old) != _without_entries(new):
        return new
    return {**new, "metadata": {**new["metadata"], "managedFields": before}}


def _timeless(entries: list[Object]) -> list[Object]:
    bare = [{key: value for key, value in entry.items() if key != "time"} for entry in entries]
    return sorted(bare, key=lambda entry: orjson.dumps(entry, option=orjson.OPT_SORT_KEYS))
