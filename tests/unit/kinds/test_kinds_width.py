"""Rules of kinds that few clients write, each told in the words of the real API server."""

import pytest

from podling.kinds.batch.failurepolicy import indexes_total

POD = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}


def test_a_finalizer_is_known_or_qualified(kinds, problems) -> None:
    said = problems(
        kinds["configmaps/v1"], {"metadata": {"finalizers": ["example.com/x", "foregroundDeletion", "own"]}}
    )
    detail = "name is neither a standard finalizer name nor is it fully qualified"
    assert said == [f'metadata.finalizers[2]: Invalid value: "own": {detail}']


def test_the_finalizers_of_a_namespace_are_held_to_the_same(kinds, problems) -> None:
    said = problems(kinds["namespaces/v1"], {"spec": {"finalizers": ["own"]}})
    assert [s.partition(":")[0] for s in said] == ["spec.finalizers"]


def test_the_class_of_an_ingress_and_its_annotation_may_agree_only(kinds, problems) -> None:
    backend = {"service": {"name": "s", "port": {"number": 80}}}

    def said(annotation: str) -> list[str]:
        meta = {"annotations": {"kubernetes.io/ingress.class": annotation}}
        spec = {"ingressClassName": "a", "defaultBackend": backend}
        return problems(kinds["ingresses.networking.k8s.io/v1"], {"metadata": meta, "spec": spec})

    assert said("a") == []
    detail = "must match `ingressClassName` when both are specified"
    assert said("b") == [f'annotations.kubernetes.io/ingress.class: Invalid value: "b": {detail}']


def test_a_token_of_a_storage_driver_lives_ten_minutes_at_least(kinds, problems) -> None:
    spec = {"tokenRequests": [{"audience": "a", "expirationSeconds": 5}], "nodeAllocatableUpdatePeriodSeconds": 9}
    assert problems(kinds["csidrivers.storage.k8s.io/v1"], {"spec": spec}) == [
        "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
        "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
    ]


def test_a_node_names_each_storage_driver_and_topology_key_once(kinds, problems) -> None:
    drivers = [{"name": "a", "nodeID": "n", "topologyKeys": ["k", "k"]}, {"name": "a", "nodeID": "n"}]
    assert problems(kinds["csinodes.storage.k8s.io/v1"], {"spec": {"drivers": drivers}}) == [
        'spec.drivers[0]: Duplicate value: "k"',
        'spec.drivers[1].name: Duplicate value: "a"',
    ]


def test_leases_lose_the_fields_of_a_feature_that_is_off(kinds, writes) -> None:
    spec = {"holderIdentity": "a", "strategy": "OldestEmulationVersion", "preferredHolder": "b"}
    write = writes(kinds["leases.coordination.k8s.io/v1"], {"spec": spec})
    assert write.new["spec"] == {"holderIdentity": "a"}


def test_a_job_is_managed_by_a_path_with_a_domain(kinds, problems) -> None:
    said = problems(kinds["jobs.batch/v1"], {"spec": {"managedBy": "me", "template": {"spec": POD}}})
    assert said == ['spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")']


def test_the_indexes_of_a_success_policy_are_counted() -> None:
    assert indexes_total("0,2-4", 5) == 4
    assert indexes_total("", 5) == 0


@pytest.mark.parametrize(
    ("indexes", "says"),
    [
        ("x", 'cannot convert string to integer for index: "x"'),
        ("5", 'too large index: "5"'),
        ("3,1", "non-increasing order, previous: 3, current: 1"),
        ("3-3", "non-increasing order, previous: 3, current: 3"),
        ("1-2-3", 'the fragment "1-2-3" violates the requirement'),
    ],
)
def test_indexes_that_are_none_are_refused(indexes, says) -> None:
    with pytest.raises(ValueError, match=says):
        indexes_total(indexes, 5)


def container_problems(kinds, problems, **container) -> list[str]:
    pod = {"spec": {"containers": [{"name": "c", "image": "i", **container}]}}
    return problems(kinds["pods/v1"], pod)


def test_huge_pages_come_whole(kinds, problems) -> None:
    pages = {"hugepages-2Mi": "3Mi"}
    said = container_problems(kinds, problems, resources={"limits": {"cpu": "1", **pages}, "requests": pages})
    detail = '"3Mi": 3Mi is not positive integer multiple of hugepages-2Mi'
    places = [f"spec.containers[0].resources.{part}[hugepages-2Mi]" for part in ("limits", "requests")]
    assert said == [f"{place}: Invalid value: {detail}" for place in places]


def test_a_whole_pod_asks_for_processors_and_memory_only(kinds, problems) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}], "resources": {"requests": {"ephemeral-storage": "1"}}}
    assert problems(kinds["pods/v1"], {"spec": spec}) == [
        'spec.resources.requests[ephemeral-storage]: Unsupported value: "ephemeral-storage": '
        'supported values: "cpu", "hugepages-", "memory"'
    ]


def test_containers_in_a_windows_host_need_its_network(kinds, problems) -> None:
    said = container_problems(kinds, problems, securityContext={"windowsOptions": {"hostProcess": True}})
    detail = "hostNetwork must be true if pod contains any hostProcess containers"
    assert said == [f"spec.hostNetwork: Invalid value: false: {detail}"]


def test_the_secrets_of_a_storage_driver_are_named_in_full(kinds, problems) -> None:
    csi = {"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"name": "s"}}
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "csi": csi}
    assert problems(kinds["persistentvolumes/v1"], {"spec": spec}) == [
        "spec.csi.nodePublishSecretRef.namespace: Required value"
    ]


def test_an_autoscaler_tolerates_no_negative_share(kinds, problems) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    spec = {"scaleTargetRef": target, "maxReplicas": 2, "behavior": {"scaleUp": {"tolerance": "-1"}}}
    assert problems(kinds["horizontalpodautoscalers.autoscaling/v2"], {"spec": spec}) == [
        'spec.behavior.scaleUp.tolerance: Invalid value: "-1": must be greater than or equal to 0'
    ]


def test_single_addresses_and_lists_of_them_say_the_same(kinds, writes) -> None:
    node = writes(kinds["nodes/v1"], {"spec": {"podCIDR": "10.0.0.0/24"}}).new
    assert node["spec"]["podCIDRs"] == ["10.0.0.0/24"]
    pod = {"spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"podIP": "1.2.3.4"}}
    kinds["pods/v1"].strategy.default(pod)
    assert pod["status"]["podIPs"] == [{"ip": "1.2.3.4"}]


@pytest.mark.parametrize(("kind", "key"), [("limitranges/v1", "limits"), ("csinodes.storage.k8s.io/v1", "drivers")])
def test_an_empty_list_that_must_be_written_is_null(kinds, writes, kind, key) -> None:
    assert writes(kinds[kind], {"spec": {key: []}}).new["spec"] == {key: None}


def test_a_priority_level_that_limits_says_how(kinds, problems) -> None:
    levels = kinds["prioritylevelconfigurations.flowcontrol.apiserver.k8s.io/v1"]
    assert problems(levels, {"spec": {"type": "Limited"}}) == [
        "spec.limited: Required value: must not be empty when type is Limited"
    ]


def test_a_flow_schema_has_a_level_and_a_precedence_in_range(kinds, problems) -> None:
    schemas = kinds["flowschemas.flowcontrol.apiserver.k8s.io/v1"]
    assert problems(schemas, {"spec": {"matchingPrecedence": 10001}}) == [
        "spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000",
        "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
    ]
