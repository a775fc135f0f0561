"""PersistentVolumeClaimResize: a claim grows only where its class says that volumes can."""

from __future__ import annotations

from podling.admission.refusals import refuse
from podling.api import meta
from podling.api.quantity import of
from podling.api.resources import Write
from podling.kinds.core.persistentvolume import storage_class
from podling.store.types import Object


def resize_claims(write: Write) -> None:
    old = write.old
    if write.resource.group_resource != "persistentvolumeclaims" or write.operation != "UPDATE" or write.subresource:
        return
    if old is None or _size(write.new) <= _size(old):
        return
    if meta.status(old).get("phase") != "Bound":
        raise refuse(write, "Only bound persistent volume claims can be expanded")
    if not _may_grow(write, old):
        why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc "
        raise refuse(write, f"{why}must support resize")


def _size(claim: Object) -> int:
    return of(meta.part(claim, "spec", "resources", "requests").get("storage", 0)).nanos


def _may_grow(write: Write, old: Object) -> bool:
    before, after = storage_class(old), storage_class(write.new)
    if not before or before != after:
        return False
    found = write.reader.get("storageclasses.storage.k8s.io", "", before)
    return found is not None and bool(found.get("allowVolumeExpansion"))
