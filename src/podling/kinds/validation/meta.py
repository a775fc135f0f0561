"""`metadata`: the rules that all objects share (k8s.io/apimachinery/pkg/api/validation/objectmeta.go)."""

from __future__ import annotations

from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, required
from podling.api.resources import Write
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import entries, part
from podling.store.types import Object

_ORPHAN: Final = "orphan"
_FOREGROUND: Final = "foregroundDeletion"
_STANDARD_FINALIZERS: Final = ("kubernetes", _ORPHAN, _FOREGROUND)
_OWNER_FIELDS: Final = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")


def object_meta(
    write: Write, name: names.NameRule = names.subdomain_name, *, any_finalizer: bool = False
) -> list[FieldError]:
    """The rules for `metadata` of a new object, or of a change.

    A change is checked by the API machinery and by the kind again, so each of its problems is told more than once.
    Kinds that ask the machinery's rules instead of core/v1's take `any_finalizer` that is a qualified name.
    """
    if write.old is None:
        return whole(write, name, any_finalizer=any_finalizer)
    return common(write) + changed(write, any_finalizer=any_finalizer)


def whole(
    write: Write, name: names.NameRule = names.subdomain_name, *, any_finalizer: bool = False
) -> list[FieldError]:
    """The rules for `metadata` of a whole object. Many kinds hold a changed object to them once more."""
    errors = metadata(write.new, namespaced=write.resource.namespaced, name=name)
    return errors if any_finalizer else errors + _known_finalizers(write.new)


def common(write: Write) -> list[FieldError]:
    """What the API machinery asks of every change before the kind is asked: of the whole, and of what changed."""
    if write.old is None:
        return []
    errors = metadata(write.new, namespaced=write.resource.namespaced, name=names.segment_name)
    return errors + metadata_update(write.new, write.old)


def changed(write: Write, *, any_finalizer: bool = False) -> list[FieldError]:
    """What most kinds ask of the `metadata` of a change."""
    if write.old is None:
        return []
    errors = metadata_update(write.new, write.old)
    return errors if any_finalizer else errors + _known_finalizers(write.new)


def _known_finalizers(obj: Object) -> list[FieldError]:
    listed = fields.each("metadata.finalizers", part(obj, "metadata").get("finalizers"))
    return [error for at, value in listed for error in known_finalizer(at, value)]


def metadata(obj: Object, *, namespaced: bool, name: names.NameRule, path: str = "metadata") -> list[FieldError]:
    meta: Object = part(obj, "metadata")
    errors: list[FieldError] = []
    if prefix := fields.text(meta, "generateName"):
        errors += fields.says(f"{path}.generateName", prefix, name(prefix, True))
    if given := fields.text(meta, "name"):
        errors += fields.says(f"{path}.name", given, name(given, False))
    else:
        errors.append(required(f"{path}.name", "name or generateName is required"))
    errors += _namespace(meta, namespaced, path)
    errors += _common(meta, path)
    return errors


def _namespace(meta: Object, namespaced: bool, path: str) -> list[FieldError]:
    namespace = fields.text(meta, "namespace")
    if not namespaced:
        return [forbidden_field(f"{path}.namespace", "not allowed on this type")] if namespace else []
    return fields.check_required(f"{path}.namespace", namespace, names.dns1123_label)


def _common(meta: Object, path: str) -> list[FieldError]:
    errors = fields.non_negative(f"{path}.generation", meta.get("generation"))
    errors += fields.labels(f"{path}.labels", meta.get("labels"))
    errors += fields.annotation_map(f"{path}.annotations", meta.get("annotations"))
    errors += owner_references(f"{path}.ownerReferences", meta.get("ownerReferences"))
    errors += finalizers(f"{path}.finalizers", meta.get("finalizers"))
    return errors


def owner_references(path: str, owners: list[Object] | None) -> list[FieldError]:
    """The problems of all owners are told at the list itself."""
    errors: list[FieldError] = []
    controller = ""
    for owner in owners or ():
        errors += _owner(path, owner)
        if not owner.get("controller"):
            continue
        if controller:
            detail = (
                'Only one reference can have Controller set to true. Found "true" in references for '
                f"{controller} and {_owner_name(owner)}"
            )
            errors.append(invalid_value(path, [_written(o) for o in owners or ()], detail))
        else:
            controller = _owner_name(owner)
    return errors


def _owner_name(owner: Object) -> str:
    return f"{fields.text(owner, 'kind')}/{fields.text(owner, 'name')}"


def _owner(path: str, owner: Object) -> list[FieldError]:
    """What is wrong with one reference; Kubernetes does not say with which."""
    version = fields.text(owner, "apiVersion")
    errors: list[FieldError] = []
    if version.count("/") > 1 or not version.rpartition("/")[2]:
        errors.append(invalid_value(f"{path}.apiVersion", version, "version must not be empty"))
    for key in ("kind", "name", "uid"):
        if not owner.get(key):
            errors.append(invalid_value(f"{path}.{key}", "", "must not be empty"))
    if version == "v1" and owner.get("kind") == "Event":
        errors.append(invalid_value(path, _written(owner), "/v1, Kind=Event is disallowed from being an owner"))
    return errors


def _written(owner: Object) -> Object:
    """Its fields in the order in which Go writes them."""
    return {key: owner[key] for key in _OWNER_FIELDS if key in owner}


def finalizer_name(path: str, value: str) -> list[FieldError]:
    return fields.check(path, value, names.qualified_name)


def known_finalizer(path: str, value: str) -> list[FieldError]:
    """What built-in kinds ask besides: a finalizer of Kubernetes' own, or one that is qualified with a domain."""
    if "/" in value or value in _STANDARD_FINALIZERS:
        return []
    return [invalid_value(path, value, "name is neither a standard finalizer name nor is it fully qualified")]


def finalizers(path: str, values: list[str] | None) -> list[FieldError]:
    errors: list[FieldError] = []
    for value in values or ():
        errors += finalizer_name(path, value)
    if values and _ORPHAN in values and _FOREGROUND in values:
        detail = f"finalizer {_ORPHAN} and {_FOREGROUND} cannot be both set"
        errors.append(invalid_value(path, values, detail))
    return errors


_FIXED: Final = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def metadata_update(new: Object, old: Object, path: str = "metadata") -> list[FieldError]:
    """What of `metadata` may not change, and the rules for what may."""
    after: Object = part(new, "metadata")
    before: Object = part(old, "metadata")
    errors = _new_finalizers(f"{path}.finalizers", after, before)
    if (after.get("generation") or 0) < (before.get("generation") or 0):
        errors.append(invalid_value(f"{path}.generation", after.get("generation") or 0, "must not be decremented"))
    for key in _FIXED:
        if after.get(key) != before.get(key):
            errors += fields.immutable(f"{path}.{key}", _zero(after.get(key)), _zero(before.get(key)))
    errors += fields.labels(f"{path}.labels", after.get("labels"))
    errors += fields.annotation_map(f"{path}.annotations", after.get("annotations"))
    errors += owner_references(f"{path}.ownerReferences", after.get("ownerReferences"))
    return errors


def _zero(value: Any) -> Any:
    return None if value == "" else value


def _new_finalizers(path: str, after: Object, before: Object) -> list[FieldError]:
    """No finalizer may be added to an object that is being deleted."""
    if not before.get("deletionTimestamp"):
        return []
    held = set(entries(before, "finalizers"))
    added = sorted(f for f in entries(after, "finalizers") if f not in held)
    if not added:
        return []
    listed = ", ".join(f'"{f}"' for f in added)
    detail = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}"
    return [forbidden_field(path, detail)]
