"""The plugins that choose a default class, and the one that protects volumes while they are in use."""

from __future__ import annotations

from podling.api import meta
from podling.api.resources import Reader, Write
from podling.kinds.core.persistentvolume import BETA_CLASS
from podling.store.types import Object

PROTECTION = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
    "volumeattributesclasses.storage.k8s.io": "kubernetes.io/vac-protection",
}
DEFAULT_STORAGE_CLASS = "storageclass.kubernetes.io/is-default-class"
DEFAULT_INGRESS_CLASS = "ingressclass.kubernetes.io/is-default-class"
OLD_INGRESS_CLASS = "kubernetes.io/ingress.class"


def _creates(write: Write, resource: str) -> bool:
    return write.operation == "CREATE" and not write.subresource and write.resource.group_resource == resource


def protect_while_in_use(write: Write) -> None:
    """StorageObjectInUseProtection: a finalizer, which the protection controllers take off."""
    finalizer = PROTECTION.get(write.resource.group_resource)
    if finalizer is None or not _creates(write, write.resource.group_resource):
        return
    finalizers = meta.items(write.new, "metadata", "finalizers")
    if finalizer not in finalizers:
        write.new["metadata"]["finalizers"] = [*finalizers, finalizer]


def default_storage_class(write: Write) -> None:
    """DefaultStorageClass: for claims that name none."""
    if _creates(write, "persistentvolumeclaims"):
        _fill(write, "storageClassName", BETA_CLASS, "storageclasses.storage.k8s.io", DEFAULT_STORAGE_CLASS)


def default_ingress_class(write: Write) -> None:
    """DefaultIngressClass: for ingresses that name none."""
    if _creates(write, "ingresses.networking.k8s.io"):
        _fill(write, "ingressClassName", OLD_INGRESS_CLASS, "ingressclasses.networking.k8s.io", DEFAULT_INGRESS_CLASS)


def _fill(write: Write, field: str, old_annotation: str, classes: str, mark: str) -> None:
    """Sets `spec.<field>` to the default class, unless the object names one, by field or by the old annotation."""
    spec = write.new["spec"]
    if spec.get(field) is not None or old_annotation in meta.annotations(write.new):
        return
    default = _default(write.reader, classes, mark)
    if default is not None:
        spec[field] = default["metadata"]["name"]


def _default(reader: Reader, classes: str, mark: str) -> Object | None:
    """Of several defaults the newest counts; of those of one second, the first by name."""
    marked = [c for c in reader.list(classes) if meta.annotations(c).get(mark) == "true"]
    marked.sort(key=lambda c: c["metadata"]["name"])
    return max(marked, key=lambda c: c["metadata"]["creationTimestamp"], default=None)
