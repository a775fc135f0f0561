"""What keeps a namespace that is being deleted, beyond what its transcript shows."""

from __future__ import annotations

from datetime import UTC, datetime

from fakecluster import FakeCluster, VirtualClock

from podling.controllers import namespace
from podling.controllers.actions import Patch, Requeue
from podling.controllers.runtime import ObjectKey
from podling.store.types import Key, Object

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def going(*finalizers: str) -> Object:
    metadata = {"name": "shop", "uid": "1", "deletionTimestamp": "2026-01-01T12:00:00Z"}
    return {"metadata": metadata, "spec": {"finalizers": ["kubernetes", *finalizers]}}


def test_nothing_goes_while_a_group_of_another_server_is_silent() -> None:
    cluster = FakeCluster(VirtualClock())
    cluster.objects[Key("namespaces", "", "shop")] = going()
    spec = {"group": "metrics.k8s.io", "version": "v1beta1", "service": {"name": "metrics"}}
    service: Object = {"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": spec}
    cluster.objects[Key(namespace.API_SERVICES, "", "v1beta1.metrics.k8s.io")] = service
    snapshot = namespace.observe(cluster, ObjectKey("", "shop"))
    assert snapshot is not None
    assert namespace.decide(snapshot) == []
    told, later = namespace.decide_status(snapshot, None, NOON)
    assert isinstance(told, Patch)
    assert isinstance(told.patch, dict)
    assert told.patch["status"]["conditions"][0]["message"] == (
        "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: "
        "metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1"
    )
    assert isinstance(later, Requeue)
    service["status"] = {"conditions": [{"type": "Available", "status": "True"}]}
    answered = namespace.observe(cluster, ObjectKey("", "shop"))
    assert answered is not None
    assert [action.why for action in namespace.decide(answered)] == ["nothing is left in it"]


def test_the_conditions_tell_that_nothing_is_left_where_others_still_hold_the_namespace() -> None:
    cluster = FakeCluster(VirtualClock())
    cluster.objects[Key("namespaces", "", "shop")] = going("example.com/own")
    snapshot = namespace.observe(cluster, ObjectKey("", "shop"))
    assert snapshot is not None
    (told,) = namespace.decide_status(snapshot, None, NOON)
    assert isinstance(told, Patch)
    assert isinstance(told.patch, dict)
    assert {c["type"]: c["reason"] for c in told.patch["status"]["conditions"]} == {
        "NamespaceDeletionDiscoveryFailure": "ResourcesDiscovered",
        "NamespaceDeletionGroupVersionParsingFailure": "ParsedGroupVersions",
        "NamespaceDeletionContentFailure": "ContentDeleted",
        "NamespaceContentRemaining": "ContentRemoved",
        "NamespaceFinalizersRemaining": "ContentHasNoFinalizers",
    }
