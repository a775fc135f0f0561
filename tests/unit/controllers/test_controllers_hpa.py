"""How many replicas an autoscaler wants: "Horizontal Pod Autoscaling", section by section."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.controllers.hpa.behavior import Past, limited
from podling.controllers.hpa.controller import Snapshot, decide
from podling.controllers.hpa.metrics import MetricsUnavailable, Sample
from podling.controllers.hpa.replicas import Groups, Tolerances, group, requested, wanted

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
    return wanted(current, groups, target, Tolerances())


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
    eager = Tolerances(up=Fraction(1, 100), down=Fraction(1, 2))
    assert wanted(4, measured(*[105] * 4), 100, eager) == 5
    assert wanted(4, measured(*[60] * 4), 100, eager) == 4


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


def test_without_any_metrics_nothing_is_decided() -> None:
    with pytest.raises(MetricsUnavailable, match="did not receive metrics for targeted pods"):
        replicas(3, measured(missing=3))


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
    assert requested([pod("p")], "cpu", None, 50) == {"p": 100}


def test_a_container_without_a_request_makes_utilization_undefined() -> None:
    without = pod("p")
    without["spec"]["containers"][0]["resources"] = {}
    with pytest.raises(MetricsUnavailable, match="missing request for cpu in containers of Pod p"):
        requested([without], "cpu", None, 50)


# Configurable scaling behavior


def hpa(low: int = 1, high: int = 100, **behavior: dict) -> dict:
    return {"spec": {"minReplicas": low, "maxReplicas": high, "behavior": behavior}}


def size(autoscaler: dict, current: int, recommended: int, past: Past | None = None) -> int:
    return limited(autoscaler, current, recommended, past or Past(), NOW).size


@pytest.mark.parametrize(("current", "expected"), [(1, 5), (4, 8), (10, 20)])
def test_by_default_it_grows_by_four_pods_or_doubles_in_fifteen_seconds(current: int, expected: int) -> None:
    assert size(hpa(), current, 100) == expected


def test_by_default_it_shrinks_at_once_after_five_minutes_of_low_recommendations() -> None:
    lately = Past(recommendations=[(NOW - timedelta(seconds=299), 10)])
    long_ago = Past(recommendations=[(NOW - timedelta(seconds=301), 10)])
    assert size(hpa(), 10, 2, lately) == 10
    assert size(hpa(), 10, 2, long_ago) == 2


def test_the_highest_recommendation_of_the_window_holds_a_scale_down() -> None:
    past = Past(recommendations=[(NOW - timedelta(seconds=s), r) for s, r in ((200, 7), (100, 4))])
    assert size(hpa(), 10, 2, past) == 7


def test_the_lowest_recommendation_of_the_window_holds_a_scale_up() -> None:
    past = Past(recommendations=[(NOW - timedelta(seconds=10), 6)])
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
    done = Past(changes=[(NOW - timedelta(seconds=30), -3)])
    assert size(hpa(scaleDown=SLOW), 10, 1, done) == 9
    long_ago = Past(changes=[(NOW - timedelta(seconds=61), -3)])
    assert size(hpa(scaleDown=SLOW), 10, 1, long_ago) == 6


@given(
    st.integers(1, 20),
    st.integers(0, 30),
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 100)), max_size=5),
    st.integers(0, 200),
)
def test_it_never_leaves_its_range(
    low: int, width: int, current: int, past: list[tuple[int, int]], recommended: int
) -> None:
    current = min(max(current, low), low + width)
    remembered = Past(recommendations=[(NOW - timedelta(seconds=s), r) for s, r in past])
    assert low <= size(hpa(low, low + width), current, recommended, remembered) <= low + width


# Several metrics


class Fixed:
    """Resource metrics that were told; others are missing."""

    def __init__(self, **values: int) -> None:
        self.values = values

    def resource(self, namespace: str, selector: dict, resource: str, container: str | None) -> dict[str, Sample]:
        if resource not in self.values:
            raise MetricsUnavailable(f"unable to get metrics for resource {resource}")
        return {"p": sample(self.values[resource])}


def decided(metrics: Fixed, current: int = 1) -> int | None:
    """The replicas that an autoscaler on cpu and memory (100 of each for a pod) writes."""
    of = [
        {"type": "Resource", "resource": {"name": name, "target": {"type": "AverageValue", "averageValue": value}}}
        for name, value in (("cpu", "100m"), ("memory", "100m"))
    ]
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "web"},
            "minReplicas": 1,
            "maxReplicas": 9,
            "metrics": of,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        },
    }
    target = {"kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": current}}
    snapshot = Snapshot(hpa=autoscaler, resource="deployments.apps", target=target, pods=[pod("p")], metrics=metrics)  # type: ignore[arg-type]
    for action in decide(snapshot, Past(), NOW):
        patch = getattr(action, "patch", {})
        if "replicas" in patch.get("spec", {}):
            return patch["spec"]["replicas"]
    return None


def test_the_metric_that_asks_for_most_counts() -> None:
    assert decided(Fixed(cpu=200, memory=400)) == 4


def test_a_missing_metric_does_not_keep_others_from_scaling_up() -> None:
    assert decided(Fixed(cpu=300)) == 3


def test_a_missing_metric_keeps_others_from_scaling_down() -> None:
    assert decided(Fixed(cpu=10), current=2) is None
    assert decided(Fixed(cpu=10, memory=10), current=2) == 1
