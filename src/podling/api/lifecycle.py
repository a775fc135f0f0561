"""The rules of `metadata` from birth to deletion, as pure functions (k8s.io/apiserver/pkg/registry/rest).

What the functions return is new; their arguments are stored objects and are not changed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from podling.api.errors import (
    ApiError,
    FieldError,
    bad_request,
    conflict,
    invalid,
    invalid_value,
    not_supported,
)
from podling.api.meta import parse_time, timestamp
from podling.api.resources import Resource
from podling.store.types import Object

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"

_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and nothing that looks alike, so that no generated name reads as a word."""
_SUFFIX_LENGTH = 5
_LONGEST_GENERATED = 63

DeleteOptions = Mapping[str, Any]
"""`metav1.DeleteOptions`: `gracePeriodSeconds`, `propagationPolicy`, `orphanDependents`, `preconditions`."""


def generated_name(prefix: str, source: random.Random) -> str:
    """A name for `metadata.generateName`."""
    suffix = "".join(source.choices(_SUFFIX_ALPHABET, k=_SUFFIX_LENGTH))
    return prefix[: _LONGEST_GENERATED - _SUFFIX_LENGTH] + suffix


def wipe(metadata: Object) -> None:
    """Takes what the system owns out of the metadata of a new object, in place."""
    for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        metadata.pop(field, None)


def begin(resource: Resource, metadata: Object, *, uid: str, now: datetime) -> None:
    """Sets what the system owns in the metadata of a new object, in place."""
    metadata["uid"] = uid
    metadata["creationTimestamp"] = timestamp(now)
    if resource.strategy.generation is not None:
        metadata["generation"] = 1


_KEPT = ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink")


def carry_over(metadata: Object, old: Object) -> None:
    """Restores in the metadata of an update what only the system may change, in place.

    Another uid, or a deletion time on an object that is not being deleted, stays in: validation refuses it.
    """
    metadata.setdefault("uid", old["uid"])
    for field in _KEPT:
        if field in old:
            metadata[field] = old[field]
        elif field in ("generation", "selfLink"):
            metadata.pop(field, None)


def same_object(old: Object, new: Object) -> bool:
    """Whether an update changes nothing: times in `managedFields` and the resourceVersion do not count."""
    if old.keys() != new.keys():
        return False
    if any(old[field] != new[field] for field in old if field != "metadata"):
        return False
    return _comparable(old["metadata"]) == _comparable(new["metadata"])


def _comparable(metadata: Object) -> Object:
    comparable = {k: v for k, v in metadata.items() if k not in ("resourceVersion", "managedFields")}
    managed = cast("list[Object]", metadata.get("managedFields") or [])
    comparable["managedFields"] = [{k: v for k, v in entry.items() if k != "time"} for entry in managed]
    return comparable


def check_preconditions(resource: Resource, obj: Object, options: DeleteOptions) -> None:
    """Raises 409 where `options.preconditions` names another uid or resourceVersion."""
    wanted = cast("dict[str, str]", options.get("preconditions") or {})
    metadata = obj["metadata"]
    if "uid" in wanted and wanted["uid"] != metadata["uid"]:
        why = (
            f"the UID in the precondition ({wanted['uid']}) does not match the UID in record ({metadata['uid']}). "
            "The object might have been deleted and then recreated"
        )
        raise conflict(resource.kind, resource.group, metadata["name"], why)
    if "resourceVersion" in wanted and wanted["resourceVersion"] != metadata["resourceVersion"]:
        why = (
            f"the ResourceVersion in the precondition ({wanted['resourceVersion']}) does not match the "
            f"ResourceVersion in record ({metadata['resourceVersion']}). The object might have been modified"
        )
        raise conflict(resource.kind, resource.group, metadata["name"], why)


_POLICIES = ("Foreground", "Background", "Orphan")


def check_delete_options(options: DeleteOptions) -> None:
    """Raises 422 for options that contradict each other or are not known."""
    errors: list[FieldError] = []
    policy = options.get("propagationPolicy")
    if policy is not None and options.get("orphanDependents") is not None:
        detail = "orphanDependents and deletionPropagation cannot be both set"
        errors.append(invalid_value("propagationPolicy", policy, detail))
    if policy is not None and policy not in _POLICIES:
        errors.append(not_supported("propagationPolicy", policy, [*_POLICIES, "nil"]))
    dry_run = cast("list[str]", options.get("dryRun") or [])
    if any(value != "All" for value in dry_run):
        errors.append(not_supported("dryRun", dry_run, ["All"]))
    if errors:
        raise invalid("DeleteOptions", "meta.k8s.io", "", errors)


def _collected_finalizers(resource: Resource, metadata: Object, options: DeleteOptions) -> list[str]:
    """The finalizers with those of the garbage collector set as the options (or the kind) want them."""
    present = cast("list[str]", metadata.get("finalizers") or [])
    kept = [f for f in present if f not in (ORPHAN, FOREGROUND)]
    match _propagation(resource, present, options):
        case "Orphan":
            return [*kept, ORPHAN]
        case "Foreground":
            return [*kept, FOREGROUND]
        case _:
            return kept


def _propagation(resource: Resource, present: list[str], options: DeleteOptions) -> str:
    orphan = cast("bool | None", options.get("orphanDependents"))
    if orphan is not None:
        return "Orphan" if orphan else "Background"
    if policy := options.get("propagationPolicy"):
        return policy
    if ORPHAN in present:
        return "Orphan"
    if FOREGROUND in present:
        return "Foreground"
    return resource.strategy.default_propagation


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a delete request does to an object: it is stored as `marked` first, if it is set, and then removed, if
    `remove` is. Neither: it is being deleted already."""

    marked: Object | None
    remove: bool


def plan_deletion(
    resource: Resource, obj: Object, options: DeleteOptions, now: datetime, pace: float = 1.0
) -> Deletion:
    """The rules of `rest.BeforeDelete` and of the generic registry that calls it.

    A grace period is a program's, in the machine's time: on a cluster's clock of another `pace` it ends later.
    """
    metadata = cast(Object, {**obj["metadata"]})
    graceful = _grace(resource, obj, options)
    if graceful is _PENDING:
        return Deletion(None, False)
    finalizers = _collected_finalizers(resource, metadata, options)
    _set_or_drop(metadata, "finalizers", finalizers)
    waits = bool(finalizers) or (resource.strategy.held is not None and resource.strategy.held(obj))
    if graceful is None:
        if not waits:
            return Deletion(None, True)
        _mark(metadata, now)
        if resource.strategy.held is not None:
            metadata.pop("deletionGracePeriodSeconds")  # namespaces, which have their own way, are never given one
    else:
        _mark_graceful(metadata, graceful, now, pace)
    marked = {**obj, "metadata": metadata}
    if resource.strategy.deleting is not None:
        resource.strategy.deleting(marked)
    return Deletion(marked, not waits and graceful == 0)


_PENDING = -1


def _grace(resource: Resource, obj: Object, options: DeleteOptions) -> int | None:
    """Seconds of grace; `None` for what is deleted at once, `_PENDING` where a delete changes nothing any more."""
    rule = resource.strategy.graceful_deletion
    wanted = cast("int | None", options.get("gracePeriodSeconds"))
    if rule is None:
        return None
    if "deletionTimestamp" not in obj["metadata"]:
        return max(0, rule(obj, wanted))
    return _shortened(cast("int | None", obj["metadata"].get("deletionGracePeriodSeconds")), wanted)


def _shortened(current: int | None, wanted: int | None) -> int | None:
    """A repeated delete may only shorten the grace period."""
    if current is None:
        return None
    return _PENDING if wanted is None or wanted >= current else max(0, wanted)


def _mark(metadata: Object, now: datetime) -> None:
    if "deletionGracePeriodSeconds" not in metadata and metadata.get("generation"):
        metadata["generation"] += 1
    if "deletionTimestamp" not in metadata or parse_time(metadata["deletionTimestamp"]) > now:
        metadata["deletionTimestamp"] = timestamp(now)
    metadata["deletionGracePeriodSeconds"] = 0


def _mark_graceful(metadata: Object, grace: int, now: datetime, pace: float) -> None:
    before = cast("int | None", metadata.get("deletionGracePeriodSeconds"))
    if before is None:
        metadata["deletionTimestamp"] = timestamp(now + timedelta(seconds=grace * pace))
        if metadata.get("generation"):
            metadata["generation"] += 1
    else:
        end = parse_time(metadata["deletionTimestamp"]) + timedelta(seconds=(grace - before) * pace)
        metadata["deletionTimestamp"] = timestamp(end)
    metadata["deletionGracePeriodSeconds"] = grace


def _set_or_drop(metadata: Object, field: str, value: list[str]) -> None:
    if value:
        metadata[field] = value
    else:
        metadata.pop(field, None)


def released_by_update(resource: Resource, new: Object) -> bool:
    """Whether an update took away the last thing that kept an object which is being deleted."""
    metadata = new["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if metadata.get("deletionGracePeriodSeconds"):
        return False
    if resource.strategy.graceful_deletion is not None and "deletionGracePeriodSeconds" not in metadata:
        return False
    return resource.strategy.held is None or not resource.strategy.held(new)


def drop_repeated_owners(metadata: Object, warnings: list[str], *, when: str = "") -> None:
    """Leaves of equal owner references the first, in place, and warns of the others."""
    references = cast("list[Object]", metadata.get("ownerReferences") or [])
    distinct: list[Object] = []
    repeated: list[str] = []
    for reference in references:
        if reference in distinct:
            repeated.append(reference.get("uid", ""))
        else:
            distinct.append(reference)
    if repeated:
        metadata["ownerReferences"] = distinct
        warnings.append(
            f".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, "
            "and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
            + ", ".join(repeated)
        )


def check_name_matches(url_name: str, metadata: Mapping[str, Any]) -> None:
    """Raises 400 where an object in a PUT has another name than the URL."""
    name = metadata.get("name") or ""
    if not name:
        message = f"the name of the object ({url_name} based on URL) was undeterminable: name must be provided"
        raise bad_request(message)
    if name != url_name:
        raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({url_name})")


def place_in_namespace(metadata: Object, namespace: str, *, namespaced: bool) -> None:
    """Sets `metadata.namespace` from the URL, in place. Raises 400 where the object names another."""
    if not namespaced:
        metadata.pop("namespace", None)
        return
    given = metadata.get("namespace")
    if given and given != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    metadata["namespace"] = namespace


def missing_resource_version(resource: Resource, name: str) -> ApiError:
    """The 422 for an update without a resourceVersion where the kind insists on one; it names the resource, where
    others name the kind."""
    error = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
    return invalid(resource.plural, resource.group, name, [error])
