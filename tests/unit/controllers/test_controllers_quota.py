"""What a namespace may use, what objects use of it, and what a write adds."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from fakecluster import FakeCluster, VirtualClock

from podling import kinds
from podling.api.errors import ApiError
from podling.api.resources import User, Write
from podling.controllers import quotaadmission, quotausage, resourcequota
from podling.store.types import Key, Object

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RESOURCES = {r.group_resource: r for r in reversed(kinds.builtin())}


def pod(name: str = "p", spec: Object | None = None, **resources: Any) -> Object:
    containers = [{"name": "c", "image": "a:1", "resources": resources}]
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": containers, **(spec or {})}}


def quota(hard: dict[str, str], used: dict[str, str] | None = None, *, name: str = "q", **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"hard": hard, **spec},
        "status": {"hard": hard, "used": dict.fromkeys(hard, "0") if used is None else used},
    }


def write(resource: str, new: Object, old: Object | None = None, **options: Any) -> Write:
    settings: dict[str, Any] = {"operation": "CREATE" if old is None else "UPDATE", **options}
    return Write(
        resource=RESOURCES[resource],
        new=new,
        old=old,
        user=User("alice"),
        reader=FakeCluster(VirtualClock()),
        now=NOON,
        **settings,
    )


def shown(usage: quotausage.Usage) -> dict[str, str]:
    return {name: str(amount) for name, amount in usage.items()}


def refused(limits: Object, wish: Write) -> str:
    with pytest.raises(ApiError) as error:
        quotaadmission.charge_of(limits, wish)
    return error.value.message


# What is used


def test_use_is_the_sum_of_what_is_there() -> None:
    content = {"pods": [pod(requests={"cpu": "300m"})], "services": [{"spec": {"type": "NodePort", "ports": [{}]}}]}
    limits = quota({"pods": "5", "requests.cpu": "2", "services": "5", "services.nodeports": "5", "limits.a/b": "1"})
    assert resourcequota.used(limits, lambda resource: content.get(resource, []), NOON) == {
        "pods": "1",
        "requests.cpu": "300m",
        "services": "1",
        "services.nodeports": "1",
    }


@pytest.mark.parametrize(
    ("resource", "obj", "expected"),
    [
        (
            "pods",
            pod(requests={"cpu": "1", "example.com/gpu": "2", "hugepages-2Mi": "4Mi"}, limits={"memory": "500M"}),
            {
                "count/pods": "1",
                "pods": "1",
                "cpu": "1",
                "requests.cpu": "1",
                "requests.example.com/gpu": "2",
                "hugepages-2Mi": "4Mi",
                "requests.hugepages-2Mi": "4Mi",
                "limits.memory": "500M",
            },
        ),
        ("pods", {**pod(requests={"cpu": "1"}), "status": {"phase": "Succeeded"}}, {"count/pods": "1"}),
        (
            "pods",
            {
                "metadata": {"deletionTimestamp": "2026-01-01T11:59:00Z", "deletionGracePeriodSeconds": 30},
                "spec": {"containers": []},
            },
            {"count/pods": "1"},
        ),
        (
            "services",
            {"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}},
            {"count/services": "1", "services": "1", "services.nodeports": "2", "services.loadbalancers": "1"},
        ),
        (
            "services",
            {"spec": {"type": "LoadBalancer", "ports": [{"port": 1}], "allocateLoadBalancerNodePorts": False}},
            {"count/services": "1", "services": "1", "services.nodeports": "0", "services.loadbalancers": "1"},
        ),
        (
            "persistentvolumeclaims",
            {
                "metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "gold"}},
                "spec": {"resources": {"requests": {"storage": "1Gi"}}},
                "status": {"allocatedResources": {"storage": "2Gi"}},
            },
            {
                "count/persistentvolumeclaims": "1",
                "persistentvolumeclaims": "1",
                "requests.storage": "2Gi",
                "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
                "gold.storageclass.storage.k8s.io/requests.storage": "2Gi",
            },
        ),
        (
            "resourceclaims.resource.k8s.io",
            {
                "spec": {
                    "devices": {
                        "requests": [
                            {"exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
                            {"exactly": {"deviceClassName": "nic", "allocationMode": "All"}},
                            {
                                "firstAvailable": [
                                    {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
                                    {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 3},
                                ]
                            },
                        ]
                    }
                }
            },
            {
                "count/resourceclaims.resource.k8s.io": "1",
                "gpu.deviceclass.resource.k8s.io/devices": "5",
                "nic.deviceclass.resource.k8s.io/devices": "32",
            },
        ),
        ("secrets", {}, {"count/secrets": "1", "secrets": "1"}),
        ("deployments.apps", {}, {"count/deployments.apps": "1"}),
    ],
)
def test_each_resource_is_counted_in_its_own_way(resource: str, obj: Object, expected: dict[str, str]) -> None:
    assert shown(quotausage.usage(resource, obj, NOON)) == expected


def test_a_pod_uses_what_it_has_until_it_has_less() -> None:
    shrinking = pod(requests={"cpu": "1"})
    resources = {"requests": {"cpu": "2"}}
    shrinking["status"] = {"containerStatuses": [{"name": "c", "resources": resources}]}
    assert shown(quotausage.usage("pods", shrinking, NOON))["requests.cpu"] == "2"
    refused_growth = pod(requests={"cpu": "100"})
    pending = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
    refused_growth["status"] = {**shrinking["status"], "conditions": [pending]}
    assert shown(quotausage.usage("pods", refused_growth, NOON))["requests.cpu"] == "2"


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ("BestEffort", pod(), pod(requests={"cpu": "1"})),
        ("NotBestEffort", pod(requests={"cpu": "1"}), pod()),
        ("Terminating", pod(spec={"activeDeadlineSeconds": 5}), pod()),
        ("NotTerminating", pod(), pod(spec={"activeDeadlineSeconds": 5})),
        ("PriorityClass", pod(spec={"priorityClassName": "high"}), pod()),
        (
            "CrossNamespacePodAffinity",
            pod(
                spec={
                    "affinity": {
                        "podAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": [
                                {"topologyKey": "k", "namespaceSelector": {}}
                            ]
                        }
                    }
                }
            ),
            pod(),
        ),
    ],
)
def test_a_scope_counts_only_the_pods_that_it_means(scope: str, inside: Object, outside: Object) -> None:
    limits = quota({"pods": "5", "count/secrets": "5"}, scopes=[scope])
    assert quotausage.concerns(limits, "pods", inside)
    assert not quotausage.concerns(limits, "pods", outside)
    assert not quotausage.concerns(limits, "secrets", {})


@pytest.mark.parametrize(
    ("operator", "values", "classes", "expected"),
    [
        ("In", ["gold"], ["gold"], True),
        ("In", ["gold"], ["silver"], False),
        ("NotIn", ["gold"], [], True),
        ("Exists", [], [], False),
        ("DoesNotExist", [], [], True),
        ("In", ["gold"], ["silver", "gold"], True),
    ],
)
def test_a_claim_is_in_the_scope_of_any_of_its_classes(
    operator: str, values: list[str], classes: list[str], expected: bool
) -> None:
    term = {"scopeName": "VolumeAttributesClass", "operator": operator, "values": values}
    limits = quota({"persistentvolumeclaims": "5"}, scopeSelector={"matchExpressions": [term]})
    wanted, *current = [*classes, None, None]
    claim = {"spec": {"volumeAttributesClassName": wanted}, "status": {"currentVolumeAttributesClassName": current[0]}}
    assert quotausage.concerns(limits, "persistentvolumeclaims", claim) == expected


# What is charged


def test_too_much_is_refused_with_all_that_is_exceeded() -> None:
    limits = quota({"pods": "1", "requests.memory": "1Gi"}, {"pods": "1", "requests.memory": "0"})
    assert refused(limits, write("pods", pod(requests={"memory": "2000M"}))) == (
        'pods "p" is forbidden: exceeded quota: q, requested: pods=1,requests.memory=2G, '
        "used: pods=1,requests.memory=0, limited: pods=1,requests.memory=1Gi"
    )


def test_a_charge_is_written_as_what_was_asked_for() -> None:
    limits = quota({"requests.memory": "1Gi", "pods": "2"})
    charged = quotaadmission.charge_of(limits, write("pods", pod(requests={"memory": "1500k"})))
    assert charged is not None
    assert charged["status"]["used"] == {"requests.memory": "1500k", "pods": "1"}


@pytest.mark.parametrize(
    ("wish", "charge"),
    [
        (write("pods", pod(requests={"cpu": "1"}), pod(requests={"cpu": "2"}), subresource="resize"), None),
        (write("pods", pod(requests={"cpu": "3"}), pod(requests={"cpu": "1"}), subresource="resize"), "2"),
        (
            write("pods", pod(spec={"activeDeadlineSeconds": 1}, requests={"cpu": "3"}), pod(requests={"cpu": "3"})),
            "3",
        ),
    ],
)
def test_an_update_is_charged_for_the_increase_or_for_all_where_it_comes_into_scope(
    wish: Write, charge: str | None
) -> None:
    scopes = {"scopes": ["Terminating"]} if wish.subresource == "" else {}
    charged = quotaadmission.charge_of(quota({"cpu": "9"}, **scopes), wish)
    assert quotaadmission.counts(wish)
    assert (charged and charged["status"]["used"]["cpu"]) == charge


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (write("pods", pod(), pod()), False),
        (write("pods", pod(), pod(), subresource="status"), False),
        (write("services", {}, {}), True),
        (write("configmaps", {}, {}), False),
        (write("configmaps", {}), True),
        (write("events", {}), False),
        (write("events.events.k8s.io", {}), False),
        (write("persistentvolumeclaims", {}, {}, subresource="status"), False),
        (
            write(
                "persistentvolumeclaims",
                {"status": {"currentVolumeAttributesClassName": "gold"}},
                {},
                subresource="status",
            ),
            True,
        ),
    ],
)
def test_what_cannot_change_the_use_is_not_looked_at(wish: Write, expected: bool) -> None:
    assert quotaadmission.counts(wish) == expected


def test_a_limited_amount_must_be_told_by_containers_or_for_the_whole_pod() -> None:
    limits = quota({"limits.cpu": "1", "requests.memory": "1Gi"})
    assert refused(limits, write("pods", pod())) == (
        'pods "p" is forbidden: failed quota: q: must specify limits.cpu for: c; requests.memory for: c'
    )
    whole = pod(spec={"resources": {"limits": {"cpu": "1"}}})
    assert quotaadmission.charge_of(limits, write("pods", whole)) is not None
    assert quotaadmission.charge_of(quota({"limits.cpu": "1"}, scopes=["NotBestEffort"]), write("pods", pod())) is None


def test_a_quota_that_nobody_has_counted_yet_lets_nothing_in() -> None:
    assert refused(quota({"pods": "1", "cpu": "1"}, {}), write("pods", pod(requests={"cpu": "1"}))) == (
        'pods "p" is forbidden: status unknown for quota: q, resources: cpu,pods'
    )


def test_nothing_is_charged_where_one_of_several_quotas_has_no_room() -> None:
    async def story() -> None:
        cluster = FakeCluster(VirtualClock())
        for name, most in (("a", "5"), ("b", "0")):
            cluster.objects[Key("resourcequotas", "default", name)] = quota({"pods": most}, name=name)
        waiting = quotaadmission.QuotaAdmission(cluster)(write("pods", pod()))
        assert waiting is not None
        with pytest.raises(ApiError, match="exceeded quota: b"):
            await waiting
        found = cluster.get("resourcequotas", "default", "a")
        assert found is not None
        assert found["status"]["used"] == {"pods": "0"}

    asyncio.run(story())
