"""Single scheduling decisions: nodes and a pod in, an answer out."""

from __future__ import annotations

from collections.abc import Sequence

from podling.controllers.runtime import ObjectKey
from podling.scheduler.framework import Bind, NodeInfo, Preempt, Snapshot, Wait
from podling.scheduler.queue import Happening, SchedulingQueue
from podling.scheduler.selection import decide
from podling.store.types import Object


class NoVolumes:
    def claim(self, namespace: str, name: str) -> Object | None:
        return None

    def volume(self, name: str) -> Object | None:
        return None

    def storage_class(self, name: str) -> Object | None:
        return None

    def all_volumes(self) -> Sequence[Object]:
        return []


def node(name: str, cpu: str = "2", **labels: str) -> Object:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
        "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "10"}},
    }


def pod(name: str, cpu: str = "100m", priority: int = 0, **spec: object) -> Object:
    container = {"name": "c", "image": "a:1", "resources": {"requests": {"cpu": cpu}}}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "a"}},
        "spec": {"containers": [container], "priority": priority, **spec},
        "status": {},
    }


def snapshot(*nodes: tuple[Object, list[Object]], budgets: Sequence[Object] = ()) -> Snapshot:
    infos = [NodeInfo.of(n, pods) for n, pods in nodes]
    return Snapshot(nodes=infos, volumes=NoVolumes(), namespaces={"default": {}}, budgets=budgets)


def test_the_emptier_node_gets_the_pod() -> None:
    answer = decide(pod("p"), snapshot((node("a"), [pod("x", "1500m")]), (node("b"), [])))
    assert isinstance(answer, Bind)
    assert answer.node == "b"


def test_init_containers_count_by_their_peak_and_sidecars_all_along() -> None:
    needy = pod("p", "500m")
    needy["spec"]["initContainers"] = [
        {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
        {"name": "init", "resources": {"requests": {"cpu": "1600m"}}},
    ]
    answer = decide(needy, snapshot((node("a"), [])))
    assert isinstance(answer, Wait)
    assert "1 Insufficient cpu" in answer.message


def test_the_least_important_pods_give_way_and_protected_ones_last() -> None:
    budget = {
        "metadata": {"name": "b", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}},
        "status": {"disruptionsAllowed": 0},
    }
    free = pod("free", "1")
    free["metadata"]["labels"] = {"app": "other"}
    guarded = pod("guarded", "1")
    answer = decide(pod("high", "1", priority=10), snapshot((node("a"), [guarded, free]), budgets=[budget]))
    assert isinstance(answer, Preempt)
    assert [v["metadata"]["name"] for v in answer.victims] == ["free"]


def test_spread_over_zones() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "a"}},
    }
    nodes = snapshot((node("a", zone="1"), [pod("x")]), (node("b", "4", zone="2"), []))
    answer = decide(pod("p", topologySpreadConstraints=[constraint]), nodes)
    assert isinstance(answer, Bind)
    assert answer.node == "b"


def test_reasons_are_counted_over_the_nodes() -> None:
    cordoned = node("b")
    cordoned["spec"]["unschedulable"] = True
    answer = decide(pod("p", "9"), snapshot((node("a"), []), (cordoned, []), (node("c"), [])))
    assert isinstance(answer, Wait)
    assert answer.message.startswith(
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. no new claims to deallocate, "
    )


def test_a_waiting_pod_is_woken_only_by_what_may_help_it() -> None:
    queue, key = SchedulingQueue(), ObjectKey("default", "p")
    queue.add(key, 0, now=0)
    assert queue.pop(0) == key
    queue.give_back(key, frozenset({"NodeAffinity"}), 0)
    queue.happened(Happening.POD_GONE, 5)
    assert queue.pop(5) is None
    queue.happened(Happening.NODE, 6)
    assert queue.pop(6) == key


def test_failed_tries_back_off_up_to_ten_seconds() -> None:
    queue, key = SchedulingQueue(), ObjectKey("default", "p")
    queue.add(key, 0, now=0)
    moment, waits = 0.0, []
    for _ in range(6):
        assert queue.pop(moment) == key
        queue.give_back(key, frozenset(), moment)
        due = queue.next_due()
        assert due is not None
        waits.append(due - moment)
        moment = due
    assert waits == [1, 2, 4, 8, 10, 10]


def test_the_more_important_pod_goes_first() -> None:
    queue = SchedulingQueue()
    queue.add(ObjectKey("default", "old"), 0, now=0)
    queue.add(ObjectKey("default", "urgent"), 100, now=1)
    assert queue.pop(2) == ObjectKey("default", "urgent")
