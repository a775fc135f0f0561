"""Fields of features that Kubernetes 1.36 knows and has switched off: it takes them, and drops them unread.

A field that a stored object has already stays. Source: `dropDisabledFields` in pkg/api/pod/util.go, and the defaults
in pkg/features/kube_features.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from podling.kinds.core.poddefaults import containers
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object


def drop_disabled(spec: Object, before: Object | None) -> None:
    """Of the spec of a pod, or of a template's."""
    _drop(_DISABLED, spec, before or {})
    if not any(_stop_signal(container) for container in containers(before or {})):
        _drop_stop_signals(spec)


def drop_disabled_status(status: Object, before: Object) -> None:
    _drop(_DISABLED_STATUS, status, before)


def _stop_signal(container: Object) -> str:
    return text(part(container, "lifecycle"), "stopSignal")


def _drop_stop_signals(spec: Object) -> None:
    for container in containers(spec):
        if _stop_signal(container):
            del container["lifecycle"]["stopSignal"]
            if not container["lifecycle"]:
                del container["lifecycle"]


def _itself(holder: Object) -> Iterator[Object]:
    yield holder


def _projections(spec: Object) -> Iterator[Object]:
    for volume in entries(spec, "volumes"):
        yield from entries(part(volume, "projected"), "sources")


def _mounts(status: Object) -> Iterator[Object]:
    for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for container in entries(status, key):
            yield from entries(container, "volumeMounts")


_Holders = Callable[[Object], Iterator[Object]]

_DISABLED: Final[tuple[tuple[str, _Holders], ...]] = (
    ("clusterTrustBundle", _projections),
    ("podCertificate", _projections),
    ("schedulingGroup", _itself),
)
"""Each field, and the objects of a pod's spec that may have it."""

_DISABLED_STATUS: Final[tuple[tuple[str, _Holders], ...]] = (
    ("nodeAllocatableResourceClaimStatuses", _itself),
    ("volumeStatus", _mounts),
)


def _drop(disabled: tuple[tuple[str, _Holders], ...], new: Object, before: Object) -> None:
    for key, holders in disabled:
        if not any(holder.get(key) is not None for holder in holders(before)):
            for holder in holders(new):
                holder.pop(key, None)
