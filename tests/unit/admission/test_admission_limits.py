"""LimitRanger: what a namespace's ranges fill in and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from admitting import Cluster, pod, refusal

from podling.admission.limitranger import default_resources, limit_resources
from podling.store.types import Object


def limit(cluster: Cluster, *items: Object, name: str = "limits") -> None:
    metadata = {"name": name, "namespace": "shop"}
    cluster.add("limitranges", {"metadata": metadata, "spec": {"limits": list(items)}})


def container(name: str = "app", **resources: Any) -> Object:
    return {"name": name, "resources": resources}


def test_containers_that_ask_for_nothing_get_the_usual(cluster: Cluster) -> None:
    limit(
        cluster,
        {"type": "Container", "default": {"memory": "1Gi", "cpu": "1"}, "defaultRequest": {"cpu": "100m"}},
    )
    write = cluster.write("pods", pod("web", container("app", limits={"cpu": "2"}), initContainers=[{"name": "init"}]))
    default_resources(write)
    assert write.new["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "2", "memory": "1Gi"},
        "requests": {"cpu": "100m"},
    }
    assert write.new["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu request for container app; memory limit for container app; "
        "cpu request for init container init; cpu, memory limit for init container init"
    )


def test_nothing_is_said_where_nothing_is_filled_in(cluster: Cluster) -> None:
    write = cluster.write("pods", pod())
    default_resources(write)
    assert write.new == pod()


@pytest.mark.parametrize(
    ("item", "asked", "problem"),
    [
        ({"min": {"cpu": "100m"}}, {}, "minimum cpu usage per Container is 100m.  No request is specified"),
        (
            {"min": {"cpu": "100m"}},
            {"requests": {"cpu": "50m"}},
            "minimum cpu usage per Container is 100m, but request is 50m",
        ),
        (
            {"min": {"memory": "1Gi"}},
            {"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi"}},
            "minimum memory usage per Container is 1Gi, but limit is 512Mi",
        ),
        ({"max": {"cpu": "1"}}, {}, "maximum cpu usage per Container is 1.  No limit is specified"),
        (
            {"max": {"cpu": "1"}},
            {"limits": {"cpu": "1500m"}},
            "maximum cpu usage per Container is 1, but limit is 1500m",
        ),
        (
            {"max": {"cpu": "1"}},
            {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}},
            "maximum cpu usage per Container is 1, but request is 2",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"limits": {"cpu": "3"}, "requests": {"cpu": "1"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"limits": {"cpu": "3"}},
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
    ],
)
def test_a_container_beyond_its_bounds_is_refused(
    cluster: Cluster, item: Object, asked: dict[str, Any], problem: str
) -> None:
    limit(cluster, {"type": "Container", **item})
    message = refusal(limit_resources, cluster.write("pods", pod("web", container("app", **asked))))
    assert message == f'pods "web" is forbidden: {problem}'


def test_several_problems_are_told_together(cluster: Cluster) -> None:
    limit(cluster, {"type": "Container", "min": {"cpu": "2"}, "max": {"memory": "1Gi"}})
    asked = container("app", requests={"cpu": "1"}, limits={"memory": "2Gi"})
    assert refusal(limit_resources, cluster.write("pods", pod("web", asked))) == (
        'pods "web" is forbidden: [minimum cpu usage per Container is 2, but request is 1, '
        "maximum memory usage per Container is 1Gi, but limit is 2Gi]"
    )


def test_a_pod_s_containers_count_together(cluster: Cluster) -> None:
    limit(cluster, {"type": "Pod", "max": {"cpu": "1"}})
    half = {"limits": {"cpu": "600m"}}
    limit_resources(cluster.write("pods", pod("web", container("a", **half))))
    two = pod("web", container("a", **half), container("b", **half))
    assert "maximum cpu usage per Pod is 1, but limit is 1200m" in refusal(limit_resources, cluster.write("pods", two))


def test_a_pod_s_own_resources_stand_in_for_its_containers_and_its_overhead_does_not_count(cluster: Cluster) -> None:
    limit(cluster, {"type": "Pod", "max": {"memory": "1Gi"}})
    asked = container("app", limits={"memory": "900Mi"})
    limit_resources(cluster.write("pods", pod("web", asked, overhead={"memory": "500Mi"})))
    own = pod("web", asked, resources={"limits": {"memory": "1500M"}})
    assert refusal(limit_resources, cluster.write("pods", own)) == (
        'pods "web" is forbidden: maximum memory usage per Pod is 1Gi, but limit is 1500M'
    )


def test_amounts_are_told_as_they_were_written(cluster: Cluster) -> None:
    limit(cluster, {"type": "Container", "min": {"memory": "1024Mi"}})
    small = cluster.write("pods", pod("web", container("app", requests={"memory": "0.5e9"})))
    assert "minimum memory usage per Container is 1Gi, but request is 500e6" in refusal(limit_resources, small)


def test_a_resize_is_completed_and_held_against_the_bounds_as_a_whole(cluster: Cluster) -> None:
    limit(cluster, {"type": "Container", "max": {"cpu": "1"}, "default": {"memory": "1Gi"}})
    big = pod("web", container("app", limits={"cpu": "2"}))
    limit_resources(cluster.write("pods", big, old=big))
    resize = cluster.write("pods", big, old=big, subresource="resize")
    default_resources(resize)
    assert resize.new["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "1Gi"}
    assert "but limit is 2" in refusal(limit_resources, resize)


def test_what_is_on_its_way_out_is_left_alone(cluster: Cluster) -> None:
    limit(cluster, {"type": "Container", "max": {"cpu": "1"}})
    big = pod("web", container("app", limits={"cpu": "2"}))
    going = {**big, "metadata": {**big["metadata"], "deletionTimestamp": "2026-01-01T12:00:00Z"}}
    limit_resources(cluster.write("pods", big, old=going, subresource="resize"))


def test_a_claim_is_neither_too_small_nor_too_large(cluster: Cluster) -> None:
    limit(cluster, {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}})

    def claim(size: str) -> Object:
        resources = {"requests": {"storage": size}}
        return {"metadata": {"name": "data", "namespace": "shop"}, "spec": {"resources": resources}}

    limit_resources(cluster.write("persistentvolumeclaims", claim("2Gi")))
    assert refusal(limit_resources, cluster.write("persistentvolumeclaims", claim("512Mi"))) == (
        'persistentvolumeclaims "data" is forbidden: minimum storage usage per PersistentVolumeClaim is 1Gi, '
        "but request is 512Mi"
    )
    large = cluster.write("persistentvolumeclaims", claim("6Gi"))
    assert "maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi" in refusal(
        limit_resources, large
    )
    assert "but request is 6Gi" in refusal(
        limit_resources, cluster.write("persistentvolumeclaims", claim("6Gi"), old=claim("6Gi"))
    )
