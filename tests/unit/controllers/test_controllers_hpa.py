"""How many replicas an autoscaler wants: "Horizontal Pod Autoscaling", section by section."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podling.api.resources import ScalePaths
from podling.controllers.hpa.behavior import Past, limited
from podling.controllers.hpa.controller import Snapshot, decide
from podling.controllers.hpa.metrics import MetricsUnavailable, Reading, Sample
from podling.controllers.hpa.replicas import AverageValue, Groups, Tolerances, Utilization, group, requested, wanted
from podling.controllers.hpa.scale import Scale

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(name: str, *, phase: str = "Running", ready: bool = True, age: float = 3600, request: str = "200m") -> dict:
    """Ready (or not) since its start, `age` seconds ago."""
    start = stamp(NOW - timedelta(seconds=age))
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": request}}}]},
        "status": {
            "phase": phase,
            "startTime": start,
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": start}],
        },
    }


def measured(*values: int, missing: int = 0, unready: int = 0) -> Groups:
    used = {f"p{i}": v for i, v in enumerate(values)}
    lost, young = {f"m{i}" for i in range(missing)}, {f"u{i}" for i in range(unready)}
    return Groups(used, frozenset(lost), frozenset(young))


def replicas(current: int, groups: Groups, target: int = 100) -> int:
    return wanted(current, groups, AverageValue(target), Tolerances())[0]


# Algorithm details


@pytest.mark.parametrize(("use", "expected"), [(200, 2), (50, 1), (100, 1)])
def test_desired_replicas_is_current_replicas_times_the_ratio(use: int, expected: int) -> None:
    assert replicas(1, measured(use)) == expected


def test_the_result_is_rounded_up() -> None:
    assert replicas(3, measured(120, 120, 120)) == 4


@pytest.mark.parametrize("use", [91, 100, 110])
def test_a_ratio_close_enough_to_one_changes_nothing(use: int) -> None:
    assert replicas(4, measured(*[use] * 4)) == 4


def test_the_tolerance_can_be_set_for_each_direction() -> None:
    eager = Tolerances(up=0.01, down=0.5)
    assert wanted(4, measured(*[105] * 4), AverageValue(100), eager)[0] == 5
    assert wanted(4, measured(*[60] * 4), AverageValue(100), eager)[0] == 4


def test_pods_that_are_being_deleted_or_failed_are_left_out() -> None:
    going = {**pod("going"), "metadata": {"name": "going", "deletionTimestamp": stamp(NOW)}}
    groups = group([going, pod("failed", phase="Failed"), pod("p0")], {"p0": sample(100)}, "cpu", NOW)
    assert groups == measured(100)


def test_missing_metrics_count_as_full_use_when_scaling_down() -> None:
    assert replicas(4, measured(10, 10, 10)) == 1
    assert replicas(4, measured(10, 10, 10, missing=1)) == 2


def test_missing_metrics_count_as_no_use_when_scaling_up() -> None:
    assert replicas(3, measured(200, 200)) == 4
    assert replicas(3, measured(200, 200, missing=1)) == 4
    assert replicas(4, measured(150, 150, missing=2)) == 4


def test_pods_that_are_not_ready_count_as_no_use_when_scaling_up() -> None:
    assert replicas(3, measured(300, 300, unready=1)) == 6
    assert replicas(3, measured(300, unready=2)) == 3


def test_a_ratio_that_the_missing_pods_would_turn_around_changes_nothing() -> None:
    assert replicas(3, measured(120, missing=2)) == 3
    assert replicas(5, measured(80, missing=4)) == 5


def sample(milli: int, age: float = 0) -> Sample:
    return Sample(milli, NOW - timedelta(seconds=age), 15)


def test_cpu_of_a_pod_that_starts_does_not_count_until_it_is_ready_for_a_whole_window() -> None:
    young = [pod("starting", age=60, ready=False), pod("fresh", age=10), pod("settled", age=60)]
    groups = group(young, {name: sample(100) for name in ("starting", "fresh", "settled")}, "cpu", NOW)
    assert set(groups.measured) == {"settled"}
    assert groups.unready == {"starting", "fresh"}


def test_memory_counts_from_the_first_sample() -> None:
    groups = group([pod("fresh", age=10, ready=False)], {"fresh": sample(100)}, "memory", NOW)
    assert set(groups.measured) == {"fresh"}


def test_pending_pods_are_not_ready() -> None:
    assert group([pod("p", phase="Pending")], {}, "cpu", NOW).unready == {"p"}


def test_utilization_is_a_share_of_what_each_pod_requests() -> None:
    goal = Utilization({"p0": 200, "p1": 100}, 50)
    size, use = wanted(2, measured(150, 75), goal, Tolerances())
    assert (size, use.percent, use.average) == (3, 75, 112)


def test_utilization_is_counted_in_whole_per_cents() -> None:
    assert wanted(2, measured(559, 559), Utilization({"p0": 1000, "p1": 1000}, 50), Tolerances())[0] == 2


def test_missing_pods_use_all_that_they_request_when_scaling_down() -> None:
    goal = Utilization(dict.fromkeys(("p0", "p1", "p2", "m0"), 100), 50)
    assert wanted(4, measured(10, 10, 10, missing=1), goal, Tolerances())[0] == 3


def test_a_container_without_a_request_makes_utilization_undefined() -> None:
    without = pod("p")
    without["spec"]["containers"][0]["resources"] = {}
    with pytest.raises(MetricsUnavailable, match="missing request for cpu in container c of Pod p"):
        requested([without], "cpu", None)


def test_sidecars_request_as_well() -> None:
    with_sidecar = pod("p")
    resources = {"requests": {"cpu": "50m"}}
    with_sidecar["spec"]["initContainers"] = [
        {"name": "first", "resources": resources},
        {"name": "beside", "restartPolicy": "Always", "resources": resources},
    ]
    assert requested([with_sidecar], "cpu", None) == {"p": 250}
    assert requested([with_sidecar], "cpu", "beside") == {"p": 50}


def test_requests_of_the_whole_pod_come_first() -> None:
    whole = pod("p")
    whole["spec"]["resources"] = {"requests": {"cpu": "800m"}}
    assert requested([whole], "cpu", None) == {"p": 800}
    with pytest.raises(MetricsUnavailable, match="missing pod-level request for memory in Pod p"):
        requested([whole], "memory", None)


# Configurable scaling behavior


def hpa(low: int = 1, high: int = 100, **behavior: dict) -> dict:
    return {"spec": {"minReplicas": low, "maxReplicas": high, "behavior": behavior}}


def size(autoscaler: dict, current: int, recommended: int, past: Past | None = None) -> int:
    return limited(autoscaler, current, recommended, past or Past(), NOW).size


@pytest.mark.parametrize(("current", "expected"), [(1, 5), (4, 8), (10, 20)])
def test_a_behavior_grows_by_four_pods_or_doubles_in_fifteen_seconds(current: int, expected: int) -> None:
    assert size(hpa(), current, 100) == expected


@pytest.mark.parametrize(("current", "expected"), [(1, 4), (4, 8), (10, 20)])
def test_without_one_it_becomes_four_or_doubles(current: int, expected: int) -> None:
    simple = {"spec": {"minReplicas": 1, "maxReplicas": 100}}
    assert size(simple, current, 100) == expected


def test_by_default_it_shrinks_at_once_after_five_minutes_of_low_recommendations() -> None:
    lately = Past(recommendations=((NOW - timedelta(seconds=299), 10),))
    long_ago = Past(recommendations=((NOW - timedelta(seconds=301), 10),))
    assert size(hpa(), 10, 2, lately) == 10
    assert size(hpa(), 10, 2, long_ago) == 2


def test_the_highest_recommendation_of_the_window_holds_a_scale_down() -> None:
    past = Past(recommendations=tuple((NOW - timedelta(seconds=s), r) for s, r in ((200, 7), (100, 4))))
    assert size(hpa(), 10, 2, past) == 7


def test_the_lowest_recommendation_of_the_window_holds_a_scale_up() -> None:
    past = Past(recommendations=((NOW - timedelta(seconds=10), 6),))
    assert size(hpa(scaleUp={"stabilizationWindowSeconds": 60}), 5, 9, past) == 6


SLOW = {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}], "stabilizationWindowSeconds": 0}
STEEP = {
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 60},
        {"type": "Percent", "value": 10, "periodSeconds": 60},
    ],
    "stabilizationWindowSeconds": 0,
}


@pytest.mark.parametrize(("current", "expected"), [(80, 72), (72, 64), (20, 16), (10, 6)])
def test_of_several_policies_the_one_that_allows_most_counts(current: int, expected: int) -> None:
    assert size(hpa(scaleDown=STEEP), current, 1) == expected


def test_select_policy_min_takes_the_one_that_allows_least() -> None:
    assert size(hpa(scaleDown={**STEEP, "selectPolicy": "Min"}), 80, 1) == 76


def test_select_policy_disabled_forbids_the_direction() -> None:
    assert size(hpa(scaleDown={"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}), 80, 1) == 80


def test_what_was_done_within_the_period_counts_against_the_policy() -> None:
    done = Past(changes=((NOW - timedelta(seconds=30), -3),))
    assert size(hpa(scaleDown=SLOW), 10, 1, done) == 9
    long_ago = Past(changes=((NOW - timedelta(seconds=61), -3),))
    assert size(hpa(scaleDown=SLOW), 10, 1, long_ago) == 6


def test_what_was_taken_back_in_the_period_does_not_count() -> None:
    swung = Past(changes=((NOW - timedelta(seconds=40), 4), (NOW - timedelta(seconds=20), -4)))
    assert size(hpa(scaleUp=SLOW), 10, 100, swung) == 14


# The whole decision


values = st.one_of(st.none(), st.integers(0, 10**9))
"""Of a metric in thousandths; `None` is one that cannot be read."""
policies = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["Pods", "Percent"]),
            "value": st.integers(1, 300),
            "periodSeconds": st.integers(1, 90),
        }
    ),
    min_size=1,
    max_size=3,
)
rules = st.fixed_dictionaries(
    {"selectPolicy": st.sampled_from(["Max", "Min", "Disabled"]), "policies": policies},
    optional={"stabilizationWindowSeconds": st.integers(0, 300), "tolerance": st.sampled_from(["0", "50m", "900m"])},
)
behaviors = st.one_of(st.none(), st.fixed_dictionaries({}, optional={"scaleUp": rules, "scaleDown": rules}))
looks = st.lists(
    st.fixed_dictionaries(
        {
            "pods": st.lists(values, max_size=6),
            "object": values,
            "external": values,
            "unready": st.integers(0, 3),
            "by hand": st.one_of(st.none(), st.integers(0, 60)),
        }
    ),
    min_size=1,
    max_size=12,
)


def metrics_of(total: str) -> list[dict]:
    described = {"apiVersion": "v1", "kind": "Service", "name": "web"}
    average, value = {"type": "AverageValue", "averageValue": "100"}, {"type": "Value", "value": "100"}
    target = value if total == "Value" else average
    return [
        {"type": "Pods", "pods": {"metric": {"name": "a"}, "target": average}},
        {"type": "Object", "object": {"metric": {"name": "b"}, "describedObject": described, "target": target}},
        {"type": "External", "external": {"metric": {"name": "c"}, "target": target}},
    ]


def readings_of(look: dict) -> list[Reading]:
    lost = MetricsUnavailable("gone")
    of_pods = {f"p{n}": sample(value) for n, value in enumerate(look["pods"]) if value is not None}
    return [of_pods or lost, *(lost if look[key] is None else look[key] for key in ("object", "external"))]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 20), st.integers(0, 30), behaviors, st.sampled_from(["Value", "AverageValue"]), looks)
def test_it_never_leaves_its_range_whatever_it_measures(
    low: int, width: int, behavior: dict | None, total: str, story: list[dict]
) -> None:
    """Nor changes anything while it is switched off, nor scales down on some of its metrics only."""
    high = max(1, low + width)
    spec = {"minReplicas": low, "maxReplicas": high, "metrics": metrics_of(total), "behavior": behavior}
    autoscaler = {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}
    past, current, now = Past(), low, NOW
    for look in story:
        now += timedelta(seconds=15)
        current = current if look["by hand"] is None else look["by hand"]
        pods = [pod(f"p{n}") for n in range(len(look["pods"]))]
        pods += [pod(f"u{n}", phase="Pending", ready=False) for n in range(look["unready"])]
        scale = Scale("deployments.apps", "web", ScalePaths(), current, current, "app=web")
        readings = readings_of(look)
        decision = decide(Snapshot(hpa=autoscaler, scale=scale, pods=pods, readings=readings), past, now)
        past = decision.past
        if decision.resize is None:
            assert low <= current <= high or current == 0
            continue
        assert isinstance(decision.resize.patch, dict)
        size = decision.resize.patch["spec"]["replicas"]
        assert low <= size <= high
        assert current or not low
        assert size > current or current > high or not any(isinstance(r, MetricsUnavailable) for r in readings)
        current = size


def test_a_new_controller_does_not_scale_down_at_once() -> None:
    """What the target is counts as the first recommendation: who comes back after a restart knows no other."""
    spec = {"minReplicas": 1, "maxReplicas": 9, "metrics": metrics_of("Value")[2:]}
    autoscaler = {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}
    scale = Scale("deployments.apps", "web", ScalePaths(), 5, 5, "app=web")
    snapshot = Snapshot(hpa=autoscaler, scale=scale, pods=[pod("p0")], readings=[1])
    first = decide(snapshot, Past(), NOW)
    assert first.resize is None
    assert decide(snapshot, first.past, NOW + timedelta(seconds=301)).resize is not None
