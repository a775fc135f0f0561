"""What a new pod is given: an account and its token, a priority, tolerations, what its runtime class says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, cast

import pytest
from admitting import Cluster, pod, refusal

from podling.admission import defaults, pods
from podling.api.errors import ApiError
from podling.api.resources import Write
from podling.store.types import Object


@pytest.fixture
def accounts(cluster: Cluster) -> pods.ServiceAccounts:
    cluster.add("serviceaccounts", {"metadata": {"name": "default", "namespace": "shop"}})
    return pods.ServiceAccounts(random.Random(1))


def account(name: str, **fields: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "shop"}, **fields}


def test_a_pod_runs_as_the_default_account_and_finds_its_token(
    cluster: Cluster, accounts: pods.ServiceAccounts
) -> None:
    write = cluster.write("pods", pod("web", {"name": "app"}, initContainers=[{"name": "init"}]))
    accounts(write)
    spec = write.new["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    volume = spec["volumes"][0]
    assert volume["name"].startswith("kube-api-access-")
    assert [next(iter(s)) for s in volume["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    for container in (*spec["containers"], *spec["initContainers"]):
        assert container["volumeMounts"] == [
            {"name": volume["name"], "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
        ]


def test_a_container_that_comes_later_gets_the_token_that_is_there(
    cluster: Cluster, accounts: pods.ServiceAccounts
) -> None:
    write = cluster.write("pods", pod("web", {"name": "app"}))
    accounts(write)
    write.new["spec"]["containers"].append({"name": "sidecar"})
    accounts(write)
    spec = write.new["spec"]
    assert len(spec["volumes"]) == 1
    assert {mount["name"] for c in spec["containers"] for mount in c["volumeMounts"]} == {spec["volumes"][0]["name"]}


def test_no_token_where_the_pod_or_its_account_wants_none(cluster: Cluster, accounts: pods.ServiceAccounts) -> None:
    cluster.add("serviceaccounts", account("quiet", automountServiceAccountToken=False))
    for spec in ({"automountServiceAccountToken": False}, {"serviceAccountName": "quiet"}):
        write = cluster.write("pods", pod(**spec))
        accounts(write)
        assert "volumes" not in write.new["spec"]
    write = cluster.write("pods", pod(serviceAccountName="quiet", automountServiceAccountToken=True))
    accounts(write)
    assert write.new["spec"]["volumes"]


def test_the_account_s_pull_secrets_are_the_pod_s(cluster: Cluster, accounts: pods.ServiceAccounts) -> None:
    cluster.add("serviceaccounts", account("puller", imagePullSecrets=[{"name": "registry"}]))
    write = cluster.write("pods", pod(serviceAccountName="puller"))
    accounts(write)
    assert write.new["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_an_account_that_is_not_there_is_refused(cluster: Cluster, accounts: pods.ServiceAccounts) -> None:
    assert refusal(accounts, cluster.write("pods", pod(serviceAccountName="ghost"))) == (
        'pods "web" is forbidden: error looking up service account shop/ghost: serviceaccount "ghost" not found'
    )
    unusable = refusal(accounts, cluster.write("pods", pod(serviceAccountName="a/b")))
    assert unusable.endswith("""service account shop/a/b: invalid resource name "a/b": [may not contain '/']""")


def test_the_default_account_of_a_new_namespace_is_waited_for(cluster: Cluster) -> None:
    write = cluster.write("pods", pod())
    waiting = pods.ServiceAccounts(random.Random(1))(write)
    assert waiting is not None
    cluster.add("serviceaccounts", account("default"))
    asyncio.run(cast("Coroutine[Any, Any, None]", waiting))
    assert write.new["spec"]["volumes"]


def test_what_others_made_of_a_pod_is_checked_again(cluster: Cluster, accounts: pods.ServiceAccounts) -> None:
    write = cluster.write("pods", pod())
    accounts(write)
    pods.check_account(write)
    write.new["spec"]["serviceAccountName"] = "ghost"
    assert 'serviceaccount "ghost" not found' in refusal(pods.check_account, write)
    write.new["spec"]["serviceAccountName"] = ""
    assert refusal(pods.check_account, write) == (
        'pods "web" is forbidden: no service account specified for pod shop/web'
    )


def test_a_priority_class_gives_its_number_and_policy(cluster: Cluster) -> None:
    cluster.add("priorityclasses.scheduling.k8s.io", {"metadata": {"name": "high"}, "value": 7})
    write = cluster.write("pods", pod(priorityClassName="high"))
    pods.priority(write)
    assert (write.new["spec"]["priority"], write.new["spec"]["preemptionPolicy"]) == (7, "PreemptLowerPriority")
    assert "must not be provided in pod spec" in refusal(
        pods.priority, cluster.write("pods", pod(priorityClassName="high", priority=8))
    )
    missing = cluster.write("pods", pod(priorityClassName="none"))
    assert refusal(pods.priority, missing) == 'pods "web" is forbidden: no PriorityClass with name none was found'


def test_without_a_class_the_lowest_global_default_counts(cluster: Cluster) -> None:
    write = cluster.write("pods", pod())
    pods.priority(write)
    assert write.new["spec"]["priority"] == 0
    for name, value in (("b", 5), ("a", 9)):
        cluster.add(
            "priorityclasses.scheduling.k8s.io", {"metadata": {"name": name}, "value": value, "globalDefault": True}
        )
    write = cluster.write("pods", pod())
    pods.priority(write)
    assert (write.new["spec"]["priorityClassName"], write.new["spec"]["priority"]) == ("b", 5)


def test_an_update_without_a_priority_keeps_it(cluster: Cluster) -> None:
    write = cluster.write("pods", pod(), old=pod(priority=7, preemptionPolicy="Never"))
    pods.priority(write)
    assert (write.new["spec"]["priority"], write.new["spec"]["preemptionPolicy"]) == (7, "Never")


def test_there_is_one_default_priority(cluster: Cluster) -> None:
    def wish(name: str, old: Object | None = None) -> Write:
        return cluster.write(pods.PRIORITY_CLASSES, {"metadata": {"name": name}, "globalDefault": True}, old=old)

    pods.one_default_priority(wish("a"))
    first = cluster.add(pods.PRIORITY_CLASSES, {"metadata": {"name": "a"}, "value": 1, "globalDefault": True})
    pods.one_default_priority(wish("a", old=first))
    for write in (wish("b"), wish("b", old={"metadata": {"name": "b"}})):
        assert refusal(pods.one_default_priority, write) == (
            'priorityclasses.scheduling.k8s.io "b" is forbidden: PriorityClass a is already marked as default. '
            "Only one default can exist"
        )


def test_a_pod_tolerates_a_lost_node_for_five_minutes(cluster: Cluster) -> None:
    own = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 1}
    write = cluster.write("pods", pod(tolerations=[own]))
    pods.default_tolerations(write)
    unreachable = {
        "key": "node.kubernetes.io/unreachable",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }
    assert write.new["spec"]["tolerations"] == [own, unreachable]


def test_a_runtime_class_adds_overhead_selector_and_tolerations(cluster: Cluster) -> None:
    cluster.add(
        "runtimeclasses.node.k8s.io",
        {
            "metadata": {"name": "vm"},
            "overhead": {"podFixed": {"memory": "64Mi"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm"}]},
        },
    )
    write = cluster.write("pods", pod(runtimeClassName="vm", nodeSelector={"disk": "ssd"}))
    pods.runtime_class(write)
    spec = write.new["spec"]
    assert spec["overhead"] == {"memory": "64Mi"}
    assert spec["nodeSelector"] == {"disk": "ssd", "vm": "yes"}
    assert spec["tolerations"] == [{"key": "vm"}]
    conflicting = cluster.write("pods", pod(runtimeClassName="vm", nodeSelector={"vm": "no"}))
    assert "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes" in refusal(pods.runtime_class, conflicting)
    pods.check_overhead(write)
    write.new["spec"]["overhead"] = {"memory": "65Mi"}
    assert "Pod's Overhead doesn't match RuntimeClass's defined Overhead" in refusal(pods.check_overhead, write)
    assert "Overhead set without" in refusal(pods.check_overhead, cluster.write("pods", pod(overhead={"cpu": "1"})))
    pods.check_overhead(cluster.write("pods", pod()))


@pytest.mark.parametrize(
    ("own", "of_class", "kept"),
    [
        ({"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Equal", "value": "x"}, "own"),
        ({"key": "a", "operator": "Equal", "value": "x"}, {"operator": "Exists"}, "class"),
        ({"key": "a", "operator": "Exists", "effect": "NoSchedule"}, {"key": "a", "operator": "Exists"}, "class"),
        (
            {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9},
            {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
            "own",
        ),
        ({"key": "a", "operator": "Equal", "value": "x"}, {"key": "a", "operator": "Equal", "value": "y"}, "both"),
        ({"key": "a", "operator": "Equal", "value": "x"}, {"key": "a", "operator": "Equal", "value": "x"}, "own"),
    ],
)
def test_of_two_tolerations_the_wider_is_kept(cluster: Cluster, own: Object, of_class: Object, kept: str) -> None:
    runtime = {"metadata": {"name": "vm"}, "scheduling": {"tolerations": [of_class]}}
    cluster.add("runtimeclasses.node.k8s.io", runtime)
    write = cluster.write("pods", pod(runtimeClassName="vm", tolerations=[own]))
    pods.runtime_class(write)
    assert write.new["spec"]["tolerations"] == {"own": [own], "class": [of_class], "both": [own, of_class]}[kept]


def test_of_several_default_classes_the_newest_is_taken(cluster: Cluster) -> None:
    for name, day in (("old", 1), ("new", 2)):
        metadata = {
            "name": name,
            "creationTimestamp": f"2026-01-0{day}T00:00:00Z",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        }
        cluster.add("storageclasses.storage.k8s.io", {"metadata": metadata})
    claim = {"metadata": {"name": "data", "namespace": "shop"}, "spec": {}}
    write = cluster.write("persistentvolumeclaims", claim)
    defaults.default_storage_class(write)
    assert write.new["spec"]["storageClassName"] == "new"
    none = cluster.write("persistentvolumeclaims", {**claim, "spec": {"storageClassName": ""}})
    defaults.default_storage_class(none)
    assert none.new["spec"]["storageClassName"] == ""


def test_claims_and_volumes_are_protected_while_in_use(cluster: Cluster) -> None:
    write = cluster.write("persistentvolumeclaims", {"metadata": {"name": "data", "namespace": "shop"}})
    defaults.protect_while_in_use(write)
    assert write.new["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]


def test_a_mirror_pod_has_no_identity_in_the_cluster(cluster: Cluster, accounts: pods.ServiceAccounts) -> None:
    def mirror(**spec: Any) -> Object:
        obj = pod(**spec)
        obj["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
        return obj

    write = cluster.write("pods", mirror())
    accounts(write)
    assert "serviceAccountName" not in write.new["spec"]
    token = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
    for spec, what in (
        ({"serviceAccountName": "default"}, "reference service accounts"),
        ({"volumes": [{"name": "s", "secret": {"secretName": "s"}}]}, "reference secrets"),
        ({"volumes": [token]}, "use ServiceAccountToken volume projections"),
    ):
        message = refusal(accounts, cluster.write("pods", mirror(**spec)))
        assert message == f'pods "web" is forbidden: a mirror pod may not {what}'


def test_an_account_may_hold_its_pods_to_the_secrets_that_it_lists(
    cluster: Cluster, accounts: pods.ServiceAccounts
) -> None:
    metadata = {
        "name": "strict",
        "namespace": "shop",
        "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"},
    }
    cluster.add("serviceaccounts", {"metadata": metadata, "secrets": [{"name": "known"}]})
    known = [{"name": "v", "secret": {"secretName": "known"}}]
    accounts(cluster.write("pods", pod(serviceAccountName="strict", volumes=known)))
    other = [{"name": "v", "secret": {"secretName": "other"}}]
    assert refusal(accounts, cluster.write("pods", pod(serviceAccountName="strict", volumes=other))) == (
        'pods "web" is forbidden: volume with secret.secretName="other" is not allowed because service account strict '
        "does not reference that secret"
    )
    reading = {"name": "app", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}]}
    assert refusal(accounts, cluster.write("pods", pod("web", reading, serviceAccountName="strict"))) == (
        'pods "web" is forbidden: container app with envVar A referencing secret.secretName="other" is not allowed '
        "because service account strict does not reference that secret"
    )
    debugging = pod(serviceAccountName="strict", ephemeralContainers=[{**reading, "name": "debug"}])
    with pytest.raises(ApiError) as refused:
        pods.check_account(
            cluster.write("pods", debugging, old=pod(serviceAccountName="strict"), subresource="ephemeralcontainers")
        )
    assert (refused.value.code, refused.value.message) == (
        500,
        'ephemeral container debug with envVar A referencing secret.secretName="other" is not allowed because '
        "service account strict does not reference that secret",
    )
