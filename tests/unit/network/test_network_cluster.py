"""Which services a change concerns, and whose address an address is."""

from __future__ import annotations

from typing import Any

import orjson

from podling.network.controller import Cluster
from podling.store.types import Change, ChangeType, Entry, Key

IP = "10.244.0.5"


def entry(resource: str, name: str, obj: dict[str, Any]) -> Entry:
    return Entry(Key(resource, "default", name), 1, orjson.dumps(obj))


def pod(uid: str, *, deleting: bool = False, phase: str = "Running", gone: bool = False) -> Change:
    metadata: dict[str, Any] = {"name": uid, "namespace": "default", "uid": uid}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    made = entry("pods", uid, {"metadata": metadata, "spec": {}, "status": {"podIP": IP, "phase": phase}})
    return Change(ChangeType.DELETED if gone else ChangeType.MODIFIED, made, None)


def piece(service: str, *ips: str, name: str = "web-1") -> Entry:
    metadata = {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": service}}
    endpoints = [{"addresses": [ip]} for ip in ips]
    return entry("endpointslices.discovery.k8s.io", name, {"metadata": metadata, "endpoints": endpoints})


def cluster_with_web() -> Cluster:
    cluster = Cluster()
    cluster.slice_changed(Change(ChangeType.ADDED, piece("web", IP), None))
    return cluster


def test_a_pod_concerns_the_services_that_have_its_address() -> None:
    cluster = cluster_with_web()
    assert cluster.using(IP) == {"default/web"}
    assert cluster.withdraw(IP) == {"default/web"}
    assert cluster.withdraw("10.244.0.6") == set()


def test_a_slice_that_changes_its_service_concerns_both() -> None:
    cluster = cluster_with_web()
    moved = Change(ChangeType.MODIFIED, piece("other", IP), piece("web", IP))
    assert cluster.slice_changed(moved) == {"default/web", "default/other"}
    assert cluster.using(IP) == {"default/other"}
    assert cluster.slices("default/web") == []


def test_a_deleted_slice_leaves_nothing_behind() -> None:
    cluster = cluster_with_web()
    cluster.slice_changed(Change(ChangeType.DELETED, piece("web", IP), piece("web", IP)))
    assert cluster.using(IP) == set()
    assert cluster.slices("default/web") == []


def test_a_pod_leaves_when_its_deletion_begins_and_ends_when_it_is_gone() -> None:
    cluster = cluster_with_web()
    assert cluster.pod_changed(pod("a")) == set()
    assert cluster.pod_changed(pod("a", deleting=True)) == {"default/web"}
    assert cluster.pod_states().leaving == {IP}
    assert cluster.pod_changed(pod("a", deleting=True)) == set()
    assert cluster.pod_changed(pod("a", deleting=True, gone=True)) == {"default/web"}
    assert cluster.pod_states().ended == {IP}


def test_an_address_belongs_to_the_live_pod_whatever_becomes_of_its_earlier_owner() -> None:
    cluster = cluster_with_web()
    cluster.pod_changed(pod("old", phase="Failed"))
    assert cluster.pod_states().ended == {IP}
    assert cluster.pod_changed(pod("new")) == {"default/web"}
    assert cluster.pod_changed(pod("old", phase="Failed", gone=True)) == set()
    assert cluster.pod_states().ended == set()


def test_withdrawal_lasts_until_admitted_or_until_the_address_has_a_new_pod() -> None:
    cluster = cluster_with_web()
    cluster.withdraw(IP)
    cluster.pod_changed(pod("a"))
    assert cluster.pod_states().leaving == {IP}
    cluster.admit(IP)
    assert cluster.pod_states().leaving == set()
    cluster.withdraw(IP)
    cluster.new_pod_at(IP)
    assert cluster.pod_states().leaving == set()


def test_pods_on_the_host_network_are_left_to_their_slices() -> None:
    cluster = cluster_with_web()
    change = pod("a", phase="Failed")
    shared = {**change.entry.object, "spec": {"hostNetwork": True}}
    assert cluster.pod_changed(Change(ChangeType.MODIFIED, entry("pods", "a", shared), None)) == set()
