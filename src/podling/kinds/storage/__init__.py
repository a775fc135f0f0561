"""The kinds of storage.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.storage import (
    csidriver,
    csinode,
    csistoragecapacity,
    storageclass,
    volumeattachment,
    volumeattributesclass,
)


def resources() -> tuple[Resource, ...]:
    return (
        csidriver.resource(),
        csinode.resource(),
        csistoragecapacity.resource(),
        storageclass.resource(),
        volumeattachment.resource(),
        volumeattributesclass.resource(),
    )
